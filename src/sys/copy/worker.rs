//! The copying process.

use std::io::{self, Read as _};
use std::path::PathBuf;

use super::destination::{CopyError, Target};
use super::progress::Progress;
use super::selection::find;
use super::{Order, Report, Source, shown};

/// How many small files, and how many bytes of them, are flushed together.
const BATCH: usize = 256;
const BATCH_BYTES: u64 = 16 << 20;

/// Reads an [`Order`] from standard input, carries it out, and writes reports to standard output.
///
/// # Errors
/// If the parent is gone, or its order cannot be decoded.
pub fn serve() -> io::Result<()> {
    let mut order = Vec::new();
    io::stdin().read_to_end(&mut order)?;
    let order: Order = serde_json::from_slice(&order).map_err(io::Error::other)?;
    let mut progress = Progress::new(order.rate);
    carry_out(&order, &mut progress)?;
    progress.tell(&Report::Ended)
}

fn carry_out(order: &Order, progress: &mut Progress) -> io::Result<()> {
    let target = match order.to.as_deref().map(|to| (to, Target::open(to, order))) {
        None => None,
        Some((_, Ok(target))) => Some(target),
        Some((to, Err(error))) => {
            let told = Report::Failed {
                path: shown(to),
                cause: error.to_string(),
                retryable: CopyError::passes(&error),
            };
            return progress.tell(&told);
        }
    };
    let inode = target.as_ref().map(Target::inode).transpose()?;
    let mut problems = Vec::new();
    let sources = find(order, inode, &mut |told| problems.push(told))?;
    for problem in &problems {
        progress.tell(problem)?;
    }
    let Some(sources) = sources else {
        return Ok(());
    };
    let bytes = sources.iter().map(|it| it.size).sum();
    let files = sources.len();
    progress.tell(&Report::Found { files, bytes })?;
    match target {
        _ if order.rehearses => Ok(()),
        Some(target) => copy(target, &sources, progress),
        None => {
            let mut listed = sources.iter().map(Source::listed);
            listed.try_for_each(|it| progress.tell(&Report::Listed(it)))
        }
    }
}

fn copy(mut target: Target, sources: &[Source], progress: &mut Progress) -> io::Result<()> {
    let mut directory = None;
    let mut written = 0;
    for source in sources {
        let parent = source
            .path()
            .parent()
            .map(PathBuf::from)
            .unwrap_or_default();
        let opened = match &directory {
            Some((known, opened)) if *known == parent => opened,
            _ => match source.open_parent() {
                Ok(opened) => &directory.insert((parent, opened)).1,
                Err(error) => {
                    fail(source, &CopyError::of_source(error), progress)?;
                    continue;
                }
            },
        };
        match target.write(source, opened, progress) {
            Ok(bytes) => written += bytes,
            Err(fault) => {
                let ends = fault.ends();
                if ends {
                    // What is complete already stays.
                    finish(&mut target, progress)?;
                }
                fail(source, &fault, progress)?;
                if ends {
                    return Ok(());
                }
            }
        }
        if target.pending() >= BATCH || written >= BATCH_BYTES {
            written = 0;
            if !finish(&mut target, progress)? {
                return Ok(());
            }
        }
    }
    if finish(&mut target, progress)?
        && let Err(error) = target.sync()
    {
        let told = Report::Failed {
            path: shown(target.path()),
            cause: format!("not everything could be flushed: {error}"),
            retryable: false,
        };
        progress.tell(&told)?;
    }
    Ok(())
}

fn fail(source: &Source, fault: &CopyError, progress: &mut Progress) -> io::Result<()> {
    let told = match fault.is_gone() {
        // It existed during the search: a log that was rotated away, for example.
        true => Report::Skipped(format!("{} was left out: {fault}", shown(&source.path()))),
        false => Report::Failed {
            path: shown(&source.path()),
            cause: fault.to_string(),
            retryable: fault.retryable(),
        },
    };
    progress.tell(&told)
}

/// Renames the written files. Returns whether to go on.
fn finish(target: &mut Target, progress: &mut Progress) -> io::Result<bool> {
    let mut goes_on = true;
    for (source, ended) in target.finish() {
        match ended {
            Ok((bytes, sha256)) => progress.tell(&Report::Copied {
                name: shown(&source.name),
                bytes,
                sha256,
                version: source.version(),
            })?,
            Err(fault) => {
                goes_on &= !fault.ends();
                fail(&source, &fault, progress)?;
            }
        }
    }
    Ok(goes_on)
}
