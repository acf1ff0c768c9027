//! A file system that hangs: FUSE whose server answers what a mount needs to be there, and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A mount of it, unmounted at the end.
pub struct Hanging {
    point: PathBuf,
    device: Option<File>,
}

impl Hanging {
    /// Mounts it at `point`. Without a server whoever touches it waits killably, as on NFS. With one, the first request
    /// is taken and never answered: who made it cannot even be killed until the mount is gone.
    pub fn mount(point: &Path, served: bool) -> Hanging {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .expect("needs root and /dev/fuse");
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o"])
            .arg("fd=0,rootmode=40000,user_id=0,group_id=0")
            .args(["srv:/hanging".as_ref(), point.as_os_str()])
            .stdin(Stdio::from(device.try_clone().expect("a descriptor")))
            .status();
        assert!(mounted.expect("mount").success());
        if served {
            let (mut device, (ready, is_ready)) =
                (device.try_clone().expect("a descriptor"), mpsc::channel());
            std::thread::spawn(move || serve(&mut device, &ready));
            let waited = is_ready.recv_timeout(Duration::from_secs(5));
            waited.expect("the kernel asked for FUSE_INIT");
        }
        Hanging {
            point: point.to_owned(),
            device: Some(device),
        }
    }
}

/// Answers FUSE_INIT, and takes every other request without an answer.
fn serve(device: &mut File, ready: &mpsc::Sender<()>) {
    let mut request = vec![0; 1 << 18];
    while let Ok(read) = device.read(&mut request) {
        let opcode = u32::from_ne_bytes(request[4..8].try_into().expect("four bytes"));
        if read < 40 || opcode != 26 {
            continue;
        }
        // fuse_out_header (length, error, unique), then fuse_init_out of 64 bytes: version 7.31, max_write at 20.
        let mut answer = vec![0; 16 + 64];
        answer[0..4].copy_from_slice(&80_u32.to_ne_bytes());
        answer[8..16].copy_from_slice(&request[8..16]);
        answer[16..20].copy_from_slice(&7_u32.to_ne_bytes());
        answer[20..24].copy_from_slice(&31_u32.to_ne_bytes());
        answer[24..28].copy_from_slice(&request[48..52]);
        answer[36..40].copy_from_slice(&4096_u32.to_ne_bytes());
        device.write_all(&answer).expect("taken");
        ready.send(()).expect("awaited");
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // Forced, which ends the connection and with it every wait (the thread reads ENODEV then), and lazily, since
        // those who waited are still on their way out.
        let unmounted = Command::new("umount").arg("-fl").arg(&self.point).status();
        drop(self.device.take());
        assert!(unmounted.expect("umount").success() || std::thread::panicking());
    }
}
