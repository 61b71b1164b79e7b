//! `understudy bench gateway-soak`: release after release under load, and nothing unaccounted for.

use anyhow::Result;
use understudy_drill::{Soak, soak};

use crate::{cli::BenchGatewaySoakArgs, commands::Exit, output::Out};

pub(super) fn run(args: &BenchGatewaySoakArgs, out: Out) -> Result<Exit> {
    let BenchGatewaySoakArgs { seconds, rate, clients, seed } = *args;
    let spinner = out.spinner("release after release, under load");
    let soaked = soak(&Soak { seconds, rate, clients, seed });
    spinner.finish_and_clear();
    let soaked = soaked?;
    out.either(soaked.text(), &soaked)?;
    Ok(if soaked.is_kept() { Exit::Ok } else { Exit::No })
}
