//! The configuration of a run or, if it is broken, the last good plan.

use super::{facts, kept, source};
use crate::app::cli::Options;
use crate::config::facts::Facts;
use crate::config::fragments::{Source, Untrusted};
use crate::config::problem::Problem;
use crate::model::trigger::Diagnosis;
use crate::plan::load::{LoadedConfig, Plan};

/// A plan and its facts.
pub struct Intake {
    /// The sequence.
    pub plan: Plan,
    /// Values of `${…}`.
    pub facts: Facts,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

/// Reads the configuration for the run `id`; if it is broken, loads the last good plan of this boot.
///
/// # Errors
/// Every problem, if there is no plan at all.
pub fn take(options: &Options, diagnosis: Diagnosis, id: &str) -> Result<Intake, Vec<Problem>> {
    let facts = facts(options, diagnosis, id);
    let loaded = LoadedConfig::through(&source(options), Some(&facts));
    let mut warnings: Vec<String> = loaded.problems.iter().map(Problem::sentence).collect();
    if let Some(plan) = loaded.plan {
        return Ok(Intake {
            plan,
            facts,
            warnings,
        });
    }
    let Some(good) = kept(options).and_then(|kept| kept.plan()) else {
        return trusted_part(options, facts, loaded.problems);
    };
    warnings.push(format!(
        "the configuration cannot be used, see above: the last good plan runs instead, from {}",
        good.since
    ));
    let LoadedConfig { plan, problems, .. } = LoadedConfig::through(&good.source(), Some(&facts));
    match plan {
        Some(plan) => Ok(Intake {
            plan,
            facts,
            warnings,
        }),
        None => Err(loaded.problems.into_iter().chain(problems).collect()),
    }
}

/// The installed configuration without the files that are not trusted.
fn trusted_part(
    options: &Options,
    facts: Facts,
    problems: Vec<Problem>,
) -> Result<Intake, Vec<Problem>> {
    if options.config.is_some() {
        return Err(problems);
    }
    let source = Source::installed(Untrusted::LeftOut);
    let LoadedConfig {
        plan: Some(plan),
        problems: left,
        ..
    } = LoadedConfig::through(&source, Some(&facts))
    else {
        return Err(problems);
    };
    let mut warnings: Vec<String> = left.iter().map(Problem::sentence).collect();
    warnings.push(
        "the configuration is not trusted, see above, and there is no last good plan: THE FAREWELL RUNS WITHOUT THESE FILES"
            .to_owned(),
    );
    Ok(Intake {
        plan,
        facts,
        warnings,
    })
}
