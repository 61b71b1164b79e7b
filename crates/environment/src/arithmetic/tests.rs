use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

#[test]
fn operators_bind_and_associate_as_at_school() {
    for (expression, value) in [
        ("1+2*3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("10 - 4 - 3", 3.0),
        ("8 / 2 / 2", 2.0),
        ("-2 * -(3 - 5)", -4.0),
        ("2 * .5 + 1.", 2.0),
        ("-7 % 4", -3.0),
        (" 3\t* 19\n", 57.0),
        ("+--1", 1.0),
    ] {
        assert_eq!(evaluate(expression), Ok(value), "{expression}");
    }
}

#[test]
fn what_is_no_expression_says_where_it_goes_wrong() {
    use ArithmeticError::{DivisionByZero, TooDeep, TooLarge, TooLong, Unexpected, Unfinished};
    for (expression, error) in [
        ("", Unfinished),
        ("1 +", Unfinished),
        ("(1", Unfinished),
        ("1)", Unexpected(')')),
        ("()", Unexpected(')')),
        ("1 2", Unexpected('2')),
        ("1..2", Unexpected('.')),
        (".", Unexpected('.')),
        ("2 ** 3", Unexpected('*')),
        ("1e9", Unexpected('e')),
        ("0x10", Unexpected('x')),
        ("inf", Unexpected('i')),
        ("__import__('os')", Unexpected('_')),
        ("１+１", Unexpected('１')),
        ("1/0", DivisionByZero),
        ("1%(2-2)", DivisionByZero),
        ("99999999 * 99999999 * 99999999", TooLarge),
        (&"9".repeat(200), TooLarge),
        (&"1+".repeat(200), TooLong),
        (&"(".repeat(100), TooDeep),
        (&"-".repeat(100), TooDeep),
    ] {
        assert_eq!(evaluate(expression), Err(error), "{expression}");
    }
}

#[test]
fn no_text_breaks_it_and_every_value_is_finite() {
    let alphabet: Vec<char> = "0123456789.+-*/%() ex,√\u{0}".chars().collect();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut valued = 0;
    for _ in 0..50_000 {
        let length = rng.random_range(0..12);
        let text: String =
            (0..length).map(|_| alphabet[rng.random_range(0..alphabet.len())]).collect();
        if let Ok(value) = evaluate(&text) {
            assert!(value.is_finite(), "{text}");
            valued += 1;
        }
    }
    assert!(valued > 500, "only {valued} texts were expressions");
}

/// A random expression and its value by another way: built from values, not read.
fn built(rng: &mut ChaCha8Rng, depth: u32) -> (String, f64) {
    if depth == 0 || rng.random_bool(0.3) {
        let number = rng.random_range(0..20);
        return (number.to_string(), f64::from(number));
    }
    let ((a, x), (b, y)) = (built(rng, depth - 1), built(rng, depth - 1));
    match rng.random_range(0..4) {
        0 => (format!("({a} + {b})"), x + y),
        1 => (format!("({a}) - ({b})"), x - y),
        2 => (format!("({a}) * ({b})"), x * y),
        _ => (format!("-({a})"), -x),
    }
}

#[test]
fn bracketed_expressions_have_the_value_they_were_built_with() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut checked = 0;
    while checked < 1000 {
        let (expression, value) = built(&mut rng, 3);
        if expression.len() <= LONGEST {
            assert_eq!(evaluate(&expression), Ok(value), "{expression}");
            checked += 1;
        }
    }
}
