//! How far a text was changed.

use std::collections::BTreeMap;

/// As many steps as a distance may take: a hundredth of a second.
const MOST_STEPS: usize = 4_000_000;

/// Levenshtein distance divided by the longer length: 0 is unchanged, 1 is new.
///
/// Over characters where these are few enough, as two texts of 2,000 always are, not counting what
/// they begin and end with in common. Over words beyond that.
pub fn edit_ratio(before: &str, after: &str) -> f64 {
    let characters = |text: &str| text.chars().collect::<Vec<char>>();
    let (old, new) = (characters(before), characters(after));
    let share = |distance: usize, longer: usize| distance as f64 / longer.max(1) as f64;
    if let Some(distance) = distance(&old, &new) {
        return share(distance, old.len().max(new.len()));
    }
    let (old, new): (Vec<&str>, Vec<&str>) =
        (before.split_whitespace().collect(), after.split_whitespace().collect());
    share(words_changed(&old, &new), old.len().max(new.len()))
}

/// How many words have to be changed, added or taken away: their Levenshtein distance. Where that
/// would take too long, how many the longer text has that the other one lacks, whatever their order.
pub fn words_changed(before: &[&str], after: &[&str]) -> usize {
    let lacking = || before.len().max(after.len()) - in_common(before, after);
    distance(before, after).unwrap_or_else(lacking)
}

/// `None` where it would take too long.
fn distance<T: PartialEq>(before: &[T], after: &[T]) -> Option<usize> {
    let same = before.iter().zip(after).take_while(|(old, new)| old == new).count();
    let (before, after) = (&before[same..], &after[same..]);
    let ends = before.iter().rev().zip(after.iter().rev());
    let same = ends.take_while(|(old, new)| old == new).count();
    let (before, after) = (&before[..before.len() - same], &after[..after.len() - same]);
    if before.len().saturating_mul(after.len()) > MOST_STEPS {
        return None;
    }
    let mut row: Vec<usize> = (0..=after.len()).collect();
    for (i, old) in before.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, new) in after.iter().enumerate() {
            let substituted = diagonal + usize::from(old != new);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    Some(row[after.len()])
}

/// How many words both have, each as often as both have it.
fn in_common(before: &[&str], after: &[&str]) -> usize {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for word in before {
        *left.entry(word).or_default() += 1;
    }
    let take = |word: &&&str| match left.get_mut(**word) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    after.iter().filter(take).count()
}
