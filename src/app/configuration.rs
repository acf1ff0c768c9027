//! What a run goes by: the configuration or, where that is broken, the last good plan.

use super::{facts, kept, source};
use crate::app::cli::Options;
use crate::config::facts::Facts;
use crate::config::fragments::{Source, Untrusted};
use crate::config::problem::Problem;
use crate::model::trigger::Diagnosis;
use crate::plan::load::{LoadedConfig, Plan};

/// A plan, and what it was made with.
pub struct Intake {
    /// The sequence.
    pub plan: Plan,
    /// What `${…}` stands for.
    pub facts: Facts,
    /// What the operator must hear of it.
    pub warnings: Vec<String>,
}

/// Reads the configuration for the run `id`; where it is broken, takes the last good plan of this boot.
///
/// # Errors
/// Every problem, where there is no plan at all.
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
        "the configuration cannot be used, as told: the last good plan runs instead, from {}",
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

/// What is left of an installed configuration without the files that are not to be trusted.
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
        "the configuration is not to be trusted, as told, and no good plan is kept: THE FAREWELL RUNS WITHOUT THESE FILES"
            .to_owned(),
    );
    Ok(Intake {
        plan,
        facts,
        warnings,
    })
}
