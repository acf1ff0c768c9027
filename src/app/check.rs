//! `farewell check`: reports every problem of a configuration.

use super::{complain, count, print, source};
use crate::app::cli::{Options, exit};
use crate::config::facts::Facts;
use crate::config::fragments::{Source, Untrusted};
use crate::model::trigger::Trigger;
use crate::plan::load::LoadedConfig;

/// Reads the configuration, evaluates its facts unless `image` is set, and prints every problem.
pub fn check(options: &Options, image: bool) -> u8 {
    let mut source = source(options);
    if image && let Source::Installed { untrusted, .. } = &mut source {
        *untrusted = Untrusted::Read;
    }
    let facts = Facts::new(Trigger::Stop, "check");
    let mut loaded = LoadedConfig::through(&source, (!image).then_some(&facts));
    match image {
        true => loaded.check_without_facts(&facts),
        false => loaded.check_facts(&facts),
    }
    loaded
        .problems
        .iter()
        .for_each(|problem| complain(&problem.to_string()));
    let errors = loaded.errors();
    let warnings = loaded.problems.len() - errors;
    let files = match (&source, loaded.files.len()) {
        (Source::Installed { main, .. }, 0) => {
            format!("no configuration ({} does not exist)", main.display())
        }
        (_, files) => count(files, "file"),
    };
    let found = match (errors, warnings) {
        (0, 0) => "no problems".to_owned(),
        (0, warnings) => count(warnings, "warning"),
        (errors, 0) => count(errors, "error"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    };
    let steps = match &loaded.plan {
        Some(plan) if plan.steps.is_empty() => {
            "the sequence is empty: farewell run would do nothing; ".to_owned()
        }
        Some(plan) => format!("{}; ", count(plan.steps.len(), "step")),
        None => String::new(),
    };
    print(&format!("farewell check: {files}; {steps}{found}\n"));
    if errors > 0 { exit::CONFIG } else { exit::OK }
}
