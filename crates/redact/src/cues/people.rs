//! Who is a person, by what is said around the name.

use super::{Run, runs::ends_in, words};

const TITLES: &[&str] = &[
    "mr",
    "mr.",
    "mrs",
    "mrs.",
    "ms",
    "ms.",
    "miss",
    "mx",
    "mx.",
    "dr",
    "dr.",
    "prof",
    "prof.",
    "professor",
    "sir",
    "madam",
    "dame",
    "herr",
    "frau",
    "monsieur",
    "madame",
    "señor",
    "señora",
    "signor",
    "signora",
];

const INTRODUCTIONS: &[&str] = &[
    "name is",
    "name's",
    "names are",
    "call me",
    "calls me",
    "call him",
    "call her",
    "goes by",
    "named him",
    "named her",
    "name him",
    "name her",
    "was called",
];

/// What introduces places and states of mind as well, so that one word after it is not enough.
const OF_SEVERAL_WORDS: &[&str] = &[
    "i'm",
    "i’m",
    "i am",
    "this is",
    "it's",
    "here is",
    "here's",
    "speaking to",
    "speaking with",
    "my name",
    "'s name",
    "’s name",
    "in the name of",
    "change it to",
    "correct it to",
    "written by",
    "directed by",
    "produced by",
    "sung by",
    "performed by",
    "played by",
    "composed by",
    "painted by",
    "signed by",
    "founded by",
    "led by",
    "starring",
    "featuring",
    "songwriter",
    "singer",
    "actor",
    "actress",
    "player",
    "author",
    "writer",
    "producer",
    "director",
    "founder",
    "chairman",
    "president",
    "commenter",
    "drummer",
    "guitarist",
    "on behalf of",
    "beneficiary",
    "assistant to",
    "tribute to",
    "according to",
    "letter to",
    "addressed to",
    "account of",
    "belongs to",
    "spoke to",
    "spoke with",
    "talked to",
    "follow up with",
    "guardian",
];

const GREETINGS: &[&str] = &[
    "hi",
    "hello",
    "hey",
    "dear",
    "thanks",
    "thank you",
    "good morning",
    "good afternoon",
    "good evening",
    "welcome",
    "welcome back",
    "hi there",
    "hello there",
    "sorry",
];

const CLOSINGS: &[&str] = &[
    "regards",
    "wishes",
    "sincerely",
    "yours",
    "yours truly",
    "yours faithfully",
    "respectfully",
    "cheers",
    "thanks",
    "thank you",
    "many thanks",
    "best",
    "love",
    "cordially",
    "warmly",
];

const LABELS: &[&str] = &[
    "first name",
    "last name",
    "full name",
    "given name",
    "family name",
    "middle name",
    "surname",
    "maiden name",
    "customer",
    "customer name",
    "client",
    "client name",
    "passenger",
    "passenger name",
    "patient",
    "patient name",
    "guest",
    "guest name",
    "contact",
    "contact name",
    "contact person",
    "account holder",
    "cardholder",
    "card holder",
    "cardholder name",
    "recipient",
    "attn",
    "attention",
    "attendee",
    "signed",
    "directed by",
    "billing address",
    "shipping address",
    "user name",
    "employee name",
    "beneficiary",
];

/// What a form asks for, and what much else is called, so that it takes the colon.
const WEAK_LABELS: &[&str] = &["name", "from", "to", "author", "director", "cc"];

const OWNERS: &[&str] = &["my", "his", "her", "our", "their", "your"];

const KIN: &[&str] = &[
    "kid",
    "son",
    "daughter",
    "wife",
    "husband",
    "brother",
    "sister",
    "father",
    "mother",
    "dad",
    "mom",
    "mum",
    "partner",
    "boss",
    "friend",
    "colleague",
    "child",
    "uncle",
    "aunt",
    "grandfather",
    "grandmother",
    "neighbor",
    "neighbour",
    "fiancé",
    "fiancée",
    "boyfriend",
    "girlfriend",
    "roommate",
    "cousin",
    "nephew",
    "niece",
    "coworker",
];

const SAYING: &[&str] = &[
    "said",
    "says",
    "asked",
    "asks",
    "replied",
    "shouted",
    "told",
    "explained",
    "wrote",
    "writes",
    "answered",
    "added",
];

/// What somebody has, and hardly anything else.
const BELONGINGS: &[&str] = &[
    "kid", "daughter", "son", "wife", "husband", "house", "address", "phone", "account", "email",
    "mother", "father", "brother", "sister", "name", "parents", "birthday", "killers", "passport",
];

pub(super) fn is_one(run: &Run<'_>) -> bool {
    let several = run.len() > 1;
    let is_spelt = run.text().contains(char::is_lowercase) || run.label().is_some();
    is_spelt
        && run.len() < 5
        && (run.follows(TITLES)
            || run.follows(INTRODUCTIONS)
            || (several && run.follows(OF_SEVERAL_WORDS))
            || is_greeted(run)
            || signs(run)
            || is_labelled(run)
            || is_related(run)
            || speaks(run)
            || owns(run)
            || answers(run)
            || has_initial(run)
            || (several && is_called(run))
            || opens_address(run))
}

fn is_greeted(run: &Run<'_>) -> bool {
    let rest = run.after();
    run.follows(GREETINGS) && (rest.is_empty() || rest.starts_with([',', '!', '.', ':', '\n', '-']))
}

/// Alone on the line below a closing.
fn signs(run: &Run<'_>) -> bool {
    let above = run.before().trim_end().trim_end_matches([',', '!', '.']);
    run.is_line() && run.before().contains('\n') && ends_in(above, CLOSINGS)
}

fn is_labelled(run: &Run<'_>) -> bool {
    let Some(label) = run.label() else { return false };
    let by_colon = run.before().trim_end_matches([' ', '\t', '*', '"', '\'']).ends_with([':', '=']);
    ends_in(&label, LABELS) || (by_colon && run.len() < 4 && WEAK_LABELS.contains(&label.as_str()))
}

fn is_related(run: &Run<'_>) -> bool {
    let before = run.before().trim_end_matches([' ', ',']);
    let Some((rest, kin)) = before.rsplit_once(' ') else { return false };
    let kin = kin.to_lowercase();
    // One or several, but a boss is one.
    let is_kin = KIN.contains(&kin.as_str()) || KIN.contains(&kin.trim_end_matches('s'));
    is_kin && ends_in(rest, OWNERS)
}

fn speaks(run: &Run<'_>) -> bool {
    let next = run.after().trim_start_matches([',', ' ']).split([' ', ':', ',', '.']).next();
    let tells = next.is_some_and(|word| SAYING.contains(&word));
    tells || run.follows(SAYING)
}

fn owns(run: &Run<'_>) -> bool {
    let rest = run.after().strip_prefix("'s ").or(run.after().strip_prefix("’s "));
    let what = rest.and_then(|rest| rest.split(|c: char| !c.is_alphabetic()).next());
    what.is_some_and(|what| BELONGINGS.contains(&what))
}

/// Comes right after a question for a name.
fn answers(run: &Run<'_>) -> bool {
    let mut before = run.before().trim_end();
    for said in ["user:", "customer:", "caller:", "client:", "it's", "it’s", "it is"] {
        let cut = before.len().saturating_sub(said.len());
        if before.get(cut..).is_some_and(|end| end.eq_ignore_ascii_case(said)) {
            before = before[..cut].trim_end();
        }
    }
    let Some(question) = before.strip_suffix('?') else { return false };
    let question = question.rsplit(['.', '?', '!', '\n']).next().unwrap_or_default();
    ends_in(question, &["name"]) || question.contains(" name ")
}

/// `Faina D. Yefremova`.
fn has_initial(run: &Run<'_>) -> bool {
    let words: Vec<&str> = run.words().collect();
    let [first, .., initial, last] = words.as_slice() else { return false };
    let is_initial = |word: &str| word.trim_end_matches('.').chars().count() == 1;
    let is_name = |word: &str| word.contains(char::is_lowercase);
    is_initial(initial) && is_name(first) && is_name(last)
}

/// By a given name that is no other word.
fn is_called(run: &Run<'_>) -> bool {
    run.words().next().is_some_and(words::is_given_name)
}

/// The first line of an address, whose second or third begins with a number.
fn opens_address(run: &Run<'_>) -> bool {
    let lines = run.after().split('\n').skip(1);
    let said = lines.map(|line| line.trim_matches([' ', '\t', '>', '?'])).filter(|l| !l.is_empty());
    let mut next = said.take(2);
    let is_place = |line: &str| {
        let number = line.split(' ').next().unwrap_or_default();
        let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
        let has_street = line.split(' ').nth(1).is_some_and(|word| {
            word.starts_with(char::is_uppercase) || word.starts_with(|c: char| c.is_ascii_digit())
        });
        (is_number && has_street) || line.starts_with("PSC ") || line.starts_with("Unit ")
    };
    (2..4).contains(&run.len()) && run.is_line() && next.any(is_place)
}
