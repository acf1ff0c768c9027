//! The mounts that this process sees, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)), which can be read even if a
//! mount does not answer.
//!
//! Parsed here because the crate `procfs` leaves octal escapes in paths, misreads a line with an empty source, and
//! fails altogether if one line is odd or not UTF-8.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// One mount, displayed as `nfs4 from srv:/export`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub id: u32,
    /// The id of the mount that it is mounted on.
    pub parent: u32,
    /// The device number of its file system in the kernel's encoding (`st_dev` uses another one).
    pub device: u64,
    /// Where it is mounted.
    pub point: PathBuf,
    /// The type of its file system: `ext4`, `nfs4`.
    pub fs_type: String,
    /// What is mounted: a device or a server's export, or what the file system shows instead.
    pub source: String,
    /// Whether the mount or its file system is read-only.
    pub read_only: bool,
    /// The options of its file system: `rw,vers=4.2,addr=10.0.0.5`.
    pub options: String,
}

/// All of them, in the kernel's order.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<Mount>);

impl fmt::Display for Mount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} from {}", self.fs_type, self.source)
    }
}

impl Mounts {
    /// The mounts as they are now.
    pub fn read() -> io::Result<Mounts> {
        Ok(Mounts::parse(&fs::read("/proc/self/mountinfo")?))
    }

    /// Parses the file's content. Lines that cannot be parsed are left out.
    pub fn parse(text: &[u8]) -> Mounts {
        let lines = text.split(|byte| *byte == b'\n');
        Mounts(lines.filter_map(parse_line).collect())
    }

    /// The mount points below `place`.
    pub fn below<'a>(&'a self, place: &'a Path) -> impl Iterator<Item = &'a Path> {
        let points = self.0.iter().map(|mount| mount.point.as_path());
        points.filter(move |point| *point != place && point.starts_with(place))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }

    /// The mount with this id.
    pub fn with_id(&self, id: u32) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.id == id)
    }

    /// The topmost mount at `point`.
    pub fn top(&self, point: &Path) -> Option<&Mount> {
        let at_point = || self.0.iter().filter(|mount| mount.point == point);
        at_point().rfind(|mount| !at_point().any(|other| other.parent == mount.id))
    }

    /// The mount of `path`, which must not contain symbolic links, by its name alone.
    pub fn around(&self, path: &Path) -> Option<&Mount> {
        path.ancestors().find_map(|ancestor| self.top(ancestor))
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = device(fields.next()?)?;
    let point = PathBuf::from(OsString::from_vec(unescaped(fields.nth(1)?)));
    let options = fields.next()?;
    fields.find(|field| *field == b"-")?;
    let fs_type = text(fields.next()?);
    let source = text(fields.next()?);
    let of_super_block = fields.next().unwrap_or_default();
    let is_read_only = |options: &[u8]| {
        options
            .split(|byte| *byte == b',')
            .any(|option| option == b"ro")
    };
    Some(Mount {
        id,
        parent,
        device,
        point,
        fs_type,
        source,
        read_only: is_read_only(options) || is_read_only(of_super_block),
        options: text(of_super_block),
    })
}

/// `major:minor` as one number (MKDEV in linux/kdev_t.h).
fn device(field: &[u8]) -> Option<u64> {
    let (major, minor) = str::from_utf8(field).ok()?.split_once(':')?;
    let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
    Some(major << 20 | minor)
}

fn number(field: &[u8]) -> Option<u32> {
    str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescaped(field)).into_owned()
}

/// `field` with its octal escapes (`\040` for a space) decoded.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(field.len()), field);
    while let Some((first, others)) = rest.split_first() {
        let escape = others.get(..3).filter(|_| *first == b'\\');
        let byte =
            escape.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match byte {
            Some(byte) => (bytes.push(byte), rest = &others[3..]),
            None => (bytes.push(*first), rest = others),
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:50 / /mnt/a\\040b\\134c rw master:1 propagate_from:2 - nfs4 srv:/x\\040y ro,vers=4.2
41 22 0:51 / /mnt/auto rw - autofs systemd-1 rw,fd=50
50 41 0:52 / /mnt/auto ro shared:9 - ext4 /dev/sdb rw
no mount
";

    #[test]
    fn lines_are_understood_with_their_escapes() {
        let mounts = Mounts::parse(MOUNTS);
        let shared = mounts.top(Path::new("/mnt/a b\\c")).expect("mounted");
        assert_eq!(shared.to_string(), "nfs4 from srv:/x y");
        assert!(shared.read_only);
        assert_eq!(
            (shared.device, shared.options.as_str()),
            (50, "ro,vers=4.2")
        );
        assert!(!mounts.with_id(22).expect("the root").read_only);
        assert_eq!(mounts.0.len(), 4);
        assert!(Mounts::read().expect("proc").top(Path::new("/")).is_some());
    }

    #[test]
    fn the_top_one_is_found_and_the_one_around() {
        let mounts = Mounts::parse(MOUNTS);
        let top = mounts.top(Path::new("/mnt/auto")).expect("mounted");
        assert_eq!((top.id, top.read_only), (50, true));
        let around = mounts.around(Path::new("/mnt/auto/deep/er"));
        assert_eq!(around.map(|mount| mount.id), Some(50));
        let around = mounts.around(Path::new("/mnt/autobahn"));
        assert_eq!(around.map(|mount| mount.id), Some(22));
        assert_eq!(mounts.top(Path::new("/mnt")), None);
    }
}
