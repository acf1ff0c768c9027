//! A file whose readers are kept waiting.

use std::os::fd::AsFd as _;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

/// As long as it lives, open(2) of the file returns to nobody; see fanotify(7), FAN_OPEN_PERM. A descriptor that was opened
/// with O_PATH reads nothing, and is not held.
pub struct Held(Fanotify);

impl Held {
    pub fn new(file: &Path) -> Held {
        let watch = Fanotify::init(
            InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC,
            EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC,
        )
        .expect("fanotify");
        watch
            .mark(
                MarkFlags::FAN_MARK_ADD,
                MaskFlags::FAN_OPEN_PERM,
                nix::fcntl::AT_FDCWD,
                Some(file),
            )
            .expect("marked");
        Held(watch)
    }

    /// Waits until somebody wants to read it.
    pub fn wait_for_reader(&self) {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(super::keeper::GENEROUS).expect("short enough");
        assert_eq!(poll(&mut polled, limit), Ok(1), "nobody reads it");
    }
}
