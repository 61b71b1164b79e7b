use super::*;

const ROWS: [[f64; 4]; 3] = [[1.0, 0.0, 0.5, 1.0], [0.0; 4], [2.0, -1.0, 0.0, 1.0]];

fn given(rewards: &[f64]) -> Vec<Option<f64>> {
    rewards.iter().copied().map(Some).collect()
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < tolerance, "{found} is not {expected}");
    }
}

fn with(scale: AdvantageScale) -> AdvantageSettings {
    AdvantageSettings { scale, ..AdvantageSettings::trl() }
}

/// Values of TRL, ART and verl, to the seven digits they were noted with.
#[test]
fn three_groups_have_the_advantages_each_framework_gives_them() {
    let rows: Vec<Vec<Option<f64>>> = ROWS.iter().map(|row| given(row)).collect();
    let groups: Vec<&[Option<f64>]> = rows.iter().map(Vec::as_slice).collect();
    let check = |settings: AdvantageSettings, first: [f64; 4], last: [f64; 4]| {
        let found = batch(&groups, &settings);
        close(&found[0].values, &first, 1e-7);
        close(&found[1].values, &[0.0; 4], f64::MIN_POSITIVE);
        close(&found[2].values, &last, 1e-7);
        let signals: Vec<bool> = found.iter().map(|row| row.has_signal).collect();
        assert_eq!(signals, [true, false, true]);
    };
    check(
        AdvantageSettings::trl(),
        [0.783_185_8, -1.305_309_7, -0.261_061_9, 0.783_185_8],
        [1.161_805, -1.161_805, -0.387_268_3, 0.387_268_3],
    );
    check(
        with(AdvantageScale::Batch),
        [0.485_441_3, -0.809_068_8, -0.161_813_8, 0.485_441_3],
        [1.941_765_2, -1.941_765_2, -0.647_255_1, 0.647_255_1],
    );
    check(with(AdvantageScale::None), [0.375, -0.625, -0.125, 0.375], [1.5, -1.5, -0.5, 0.5]);
    check(
        AdvantageSettings::art(),
        [0.904_531_9, -1.507_553_1, -0.301_510_6, 0.904_531_9],
        [1.341_639_6, -1.341_639_6, -0.447_213_2, 0.447_213_2],
    );
    check(
        AdvantageSettings::verl(),
        [0.783_347_8, -1.305_579_7, -0.261_115_9, 0.783_347_8],
        [1.161_894_1, -1.161_894_1, -0.387_298, 0.387_298],
    );
    check(
        with(AdvantageScale::Rloo),
        [0.5, -0.833_333_3, -0.166_666_7, 0.5],
        [2.0, -2.0, -0.666_666_7, 0.666_666_7],
    );
}

#[test]
fn two_rewards_show_what_ddof_means() {
    let rewards = given(&[1.0, 0.0]);
    let exact = |std_ddof| AdvantageSettings { std_ddof, eps: 0.0, ..AdvantageSettings::trl() };
    let half = std::f64::consts::FRAC_1_SQRT_2;
    close(&group(&rewards, &exact(1)).values, &[half, -half], 1e-15);
    close(&group(&rewards, &exact(0)).values, &[1.0, -1.0], 1e-15);
}

#[test]
fn rloo_is_the_reward_less_the_mean_of_the_others() {
    let found = group(&given(&[3.0, 0.0, 1.0]), &with(AdvantageScale::Rloo));
    close(&found.values, &[3.0 - 0.5, 0.0 - 2.0, 1.0 - 1.5], 1e-15);
}

#[test]
fn max_rl_divides_by_the_mean() {
    let settings = AdvantageSettings { eps: 0.0, ..with(AdvantageScale::MaxRl) };
    close(&group(&given(&[1.0, 0.0, 0.0, 0.0]), &settings).values, &[3.0, -1.0, -1.0, -1.0], 1e-15);
    assert!(!group(&given(&[-1.0, 0.0]), &settings).has_signal);
}

#[test]
fn adding_a_constant_changes_nothing_and_nor_does_scaling_up_to_eps() {
    let row = [0.3, -0.8, 1.4, 0.9];
    for scale in [AdvantageScale::Group, AdvantageScale::None, AdvantageScale::Rloo] {
        let settings = AdvantageSettings { eps: 0.0, ..with(scale) };
        let plain = group(&given(&row), &settings).values;
        let moved = group(&given(&row.map(|reward| reward + 7.0)), &settings).values;
        close(&moved, &plain, 1e-12);
        let scaled = group(&given(&row.map(|reward| reward * 5.0)), &settings).values;
        let factor = if scale == AdvantageScale::Group { 1.0 } else { 5.0 };
        let expected: Vec<f64> = plain.iter().map(|value| value * factor).collect();
        close(&scaled, &expected, 1e-12);
    }
}

#[test]
fn a_reward_never_given_is_in_no_mean_and_has_no_advantage() {
    let settings = AdvantageSettings::trl();
    let whole = group(&given(&[1.0, 0.0, 0.5]), &settings).values;
    let found = group(&[Some(1.0), None, Some(0.0), Some(0.5)], &settings);
    close(&found.values, &[whole[0], 0.0, whole[1], whole[2]], 1e-15);
    let none = group(&[None, None], &settings);
    assert_eq!((none.values, none.has_signal), (vec![0.0, 0.0], false));
    assert_eq!(group(&[], &settings).values, Vec::<f64>::new());
}

#[test]
fn equal_rewards_are_no_signal_even_when_their_mean_is_rounded() {
    let found = group(&given(&[0.1, 0.1, 0.1]), &AdvantageSettings::art());
    assert_eq!((found.values, found.has_signal), (vec![0.0; 3], false));
}

#[test]
fn a_lone_reward_is_kept_by_verl_and_dropped_by_the_others() {
    let lone = [Some(0.7)];
    assert_eq!(group(&lone, &AdvantageSettings::trl()).values, [0.0]);
    close(&group(&lone, &AdvantageSettings::verl()).values, &[0.7 / (1.0 + 1e-6)], 1e-15);
    assert!(group(&lone, &AdvantageSettings::verl()).has_signal);
}

#[test]
fn a_sum_skips_components_never_given() {
    let (a, b) = ([Some(1.0), None, None], [Some(2.0), Some(4.0), None]);
    let components =
        [Component { weight: 1.0, rewards: &a }, Component { weight: 0.5, rewards: &b }];
    assert_eq!(weighted_sum(&components), [Some(2.0), Some(2.0), None]);
}

#[test]
fn normalising_first_makes_a_narrow_component_count_as_much_as_a_wide_one() {
    let (wide, narrow) = (given(&[100.0, 0.0]), given(&[0.0, 0.01]));
    let components =
        [Component { weight: 1.0, rewards: &wide }, Component { weight: 1.0, rewards: &narrow }];
    let settings = AdvantageSettings { eps: 0.0, ..AdvantageSettings::trl() };
    let found = normalize_then_sum(&components, &settings);
    close(&found.into_iter().flatten().collect::<Vec<f64>>(), &[0.0, 0.0], 1e-12);
    assert_eq!(normalize_then_sum(&[], &settings), []);
    let partly = [Some(1.0), None, Some(0.0)];
    let found = normalize_then_sum(&[Component { weight: 2.0, rewards: &partly }], &settings);
    let one = 2.0 * std::f64::consts::FRAC_1_SQRT_2;
    assert_eq!(found[1], None);
    close(&[found[0].unwrap(), found[2].unwrap()], &[one, -one], 1e-15);
}
