//! What the command line asks of a candidate, in the words of a recipe's `[gate]`.

use anyhow::{Context, Result, bail, ensure};
use understudy_evaluation::Repeats;
use understudy_manifest::{Gate, Prices, RequiredVerdict, Risk, Scorer, Suite};

use crate::cli::EvalArgs;

pub(super) fn gate(args: &EvalArgs, suite: &Suite) -> Result<Gate> {
    let verdict = match args.verdict.as_str() {
        "better" => RequiredVerdict::Better,
        "non_inferior" => RequiredVerdict::NonInferior,
        other => bail!("unknown verdict `{other}`: use better or non_inferior"),
    };
    ensure!(
        (0.0..=1.0).contains(&args.margin),
        "--margin is {}, which is not between 0 and 1",
        args.margin
    );
    let scorer = |name: &String| {
        Scorer::parse(name)
            .with_context(|| format!("unknown scorer `{name}`: use {}", Scorer::WORDS))
    };
    let known = suite.cases.iter().filter(|case| case.risk == Risk::KnownFailure).count() as u64;
    ensure!(
        args.known_failures_fixed <= known,
        "--known-failures-fixed asks for {}, but suite `{}` has {known} cases of risk known_failure",
        args.known_failures_fixed,
        suite.name
    );
    Ok(Gate {
        suite: suite.name.clone(),
        verdict,
        margin: args.margin,
        scorer: args.scorer.as_ref().map(scorer).transpose()?,
        latency_ratio_max: ratio("--latency-ratio-max", args.latency_ratio_max)?,
        latency_p95_ratio_max: ratio("--latency-p95-ratio-max", args.latency_p95_ratio_max)?,
        tokens_ratio_max: ratio("--tokens-ratio-max", args.tokens_ratio_max)?,
        cost_ratio_max: ratio("--cost-ratio-max", args.cost_ratio_max)?,
        known_failures_fixed: args.known_failures_fixed,
        max_new_tokens: args.max_new_tokens,
        prices: prices(args)?,
    })
}

/// How cases are attempted, where not once and greedily.
pub(super) fn repeats(args: &EvalArgs) -> Result<Option<Repeats>> {
    let EvalArgs { repeats, temperature, seed, .. } = *args;
    if repeats == 1 && temperature == 0.0 {
        return Ok(None);
    }
    ensure!(
        temperature > 0.0 && temperature <= 2.0,
        "--repeats {repeats} at --temperature {temperature} would give the same answers again; set a \
         temperature above 0 and up to 2"
    );
    ensure!(
        (3..=100).contains(&repeats),
        "--temperature {temperature} with --repeats {repeats}: one sampled answer says little about \
         a subject; ask for 3 to 100"
    );
    Ok(Some(Repeats { each: repeats, temperature, seed }))
}

fn prices(args: &EvalArgs) -> Result<Option<Prices>> {
    let Some((input, output)) = args.input_usd_per_million.zip(args.output_usd_per_million) else {
        return Ok(None);
    };
    let is_price = |price: f64| (0.0..=1e6).contains(&price);
    ensure!(is_price(input) && is_price(output), "a price is a number of dollars from 0 on");
    Ok(Some(Prices { input_usd_per_million: input, output_usd_per_million: output }))
}

fn ratio(flag: &str, value: Option<f64>) -> Result<Option<f64>> {
    match value {
        Some(value) if !(value > 0.0 && value <= 1e6) => {
            bail!("{flag} is {value}, which is no ratio above 0")
        }
        _ => Ok(value),
    }
}
