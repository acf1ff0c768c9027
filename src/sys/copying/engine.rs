//! The side of the process that copies.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::finding::find;
use super::target::{Fault, Target};
use super::{Order, Source, Told, shown};

/// Between two words on the progress.
const EVERY: Duration = Duration::from_millis(200);

/// How many small files, and how many bytes of them, are flushed together.
const BATCH: usize = 256;
const BATCH_BYTES: u64 = 16 << 20;

/// Reads an [`Order`] from standard input, carries it out and writes what is told to standard output.
///
/// # Errors
/// When the parent is gone, or its order is none.
pub fn serve() -> io::Result<()> {
    let mut order = Vec::new();
    io::stdin().read_to_end(&mut order)?;
    let order: Order = serde_json::from_slice(&order).map_err(io::Error::other)?;
    let mut voice = Voice::new(order.rate);
    carry_out(&order, &mut voice)?;
    voice.tell(&Told::Ended)
}

/// What is told to the parent, and when the next byte may be written.
pub(super) struct Voice {
    begun: Instant,
    told: Instant,
    bytes: u64,
    rate: Option<u64>,
}

impl Voice {
    fn new(rate: Option<u64>) -> Voice {
        let now = Instant::now();
        Voice {
            begun: now,
            told: now,
            bytes: 0,
            rate,
        }
    }

    fn tell(&mut self, told: &Told) -> io::Result<()> {
        let mut line = serde_json::to_vec(told).map_err(io::Error::other)?;
        line.push(b'\n');
        io::stdout().write_all(&line)
    }

    /// Counts bytes that were written, and waits until more may be.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            // Where the parent is gone this process is about to be killed.
            let _ = self.tell(&Told::Progress(self.bytes));
        }
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(self.bytes as f64 / rate.max(1) as f64);
            std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
        }
    }
}

fn carry_out(order: &Order, voice: &mut Voice) -> io::Result<()> {
    let target = match Target::open(&order.to, order) {
        Ok(target) => target,
        Err(error) => {
            let told = Told::Failed {
                path: shown(&order.to),
                cause: error.to_string(),
                passing: Fault::passes(&error),
            };
            return voice.tell(&told);
        }
    };
    let inode = target.inode()?;
    let mut problems = Vec::new();
    let sources = find(order, inode, &mut |told| problems.push(told))?;
    for problem in &problems {
        voice.tell(problem)?;
    }
    let Some(sources) = sources else {
        return Ok(());
    };
    let bytes = sources.iter().map(|it| it.size).sum();
    let files = sources.len();
    voice.tell(&Told::Found { files, bytes })?;
    match order.rehearses {
        true => Ok(()),
        false => copy(target, &sources, voice),
    }
}

fn copy(mut target: Target, sources: &[Source], voice: &mut Voice) -> io::Result<()> {
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
                    fail(source, &Fault::of_source(error), voice)?;
                    continue;
                }
            },
        };
        match target.write(source, opened, voice) {
            Ok(bytes) => written += bytes,
            Err(fault) => {
                let ends = fault.ends();
                if ends {
                    // What is whole already stays.
                    finish(&mut target, voice)?;
                }
                fail(source, &fault, voice)?;
                if ends {
                    return Ok(());
                }
            }
        }
        if target.pending() >= BATCH || written >= BATCH_BYTES {
            written = 0;
            if !finish(&mut target, voice)? {
                return Ok(());
            }
        }
    }
    if finish(&mut target, voice)?
        && let Err(error) = target.sync()
    {
        let told = Told::Failed {
            path: shown(target.path()),
            cause: format!("not everything could be flushed: {error}"),
            passing: false,
        };
        voice.tell(&told)?;
    }
    Ok(())
}

fn fail(source: &Source, fault: &Fault, voice: &mut Voice) -> io::Result<()> {
    let told = match fault.is_gone() {
        // It was there when files were looked for: a log that was rotated away, say.
        true => Told::Skipped(format!("{} was left out: {fault}", shown(&source.path()))),
        false => Told::Failed {
            path: shown(&source.path()),
            cause: fault.to_string(),
            passing: fault.passing(),
        },
    };
    voice.tell(&told)
}

/// Gives the files that are written their names; whether more can be tried.
fn finish(target: &mut Target, voice: &mut Voice) -> io::Result<bool> {
    let mut goes_on = true;
    for (source, ended) in target.finish() {
        match ended {
            Ok((bytes, sha256)) => voice.tell(&Told::Copied {
                name: shown(&source.name),
                bytes,
                sha256,
                version: source.version(),
            })?,
            Err(fault) => {
                goes_on &= !fault.ends();
                fail(&source, &fault, voice)?;
            }
        }
    }
    Ok(goes_on)
}
