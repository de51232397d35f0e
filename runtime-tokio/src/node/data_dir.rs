//! A node's data directory: its key, its log, and whether the log is where it was written.
//!
//! ```text
//! identity.key   the Ed25519 seed, 32 bytes; only the owner may read it
//! log.redb       the log
//! journal/       what this node has promised to its cluster, if it is in one
//! instance       which file the log was when this node last trusted it
//! old-journal    there while the journal may be an old copy
//! control.sock   where a running node listens for commands of its owner
//! ```
//!
//! **A restored directory is dangerous.** A node that goes on from an old copy of its log signs a second
//! entry for a place that it has signed before, and its key is lost for that. The machine cannot see
//! it; the file system can, mostly: a file that was copied or restored is another file, with another
//! inode number and another time of birth, and neither is something a backup program can set. `instance`
//! keeps both. Where they differ, the node starts *suspect*: it reads, and writes nothing until every
//! member has been found to hold no more, or its owner says that nothing newer exists. A log that was
//! found damaged is treated alike.
//!
//! **So is a restored journal**, and peers cannot make up for it: nobody can tell a node what it has
//! promised. That the file was another one is therefore noted for the journal by itself, in `old-journal`,
//! before anything else is done. While that file is there the node takes no part in a cluster; it goes
//! when the owner says that nothing newer exists, or when the node was removed from its cluster and added
//! again. That the log turns out to be whole does not remove it.
//!
//! (The number of the device would be a third mark, but it changes with a reboot on some systems. A
//! disk image that is rolled back as a whole is not noticed here.)

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use quorate_core::machine::NodeId;

use crate::journal::Journal;
use crate::storage::{FILE_NAME, Storage, StorageError};

/// The file with the node's secret seed.
pub const IDENTITY_FILE: &str = "identity.key";
const INSTANCE_FILE: &str = "instance";
/// The file that is there while the journal may be an old copy.
pub const OLD_JOURNAL_FILE: &str = "old-journal";
/// What stands before the mark of a log that lacks something, though it is the same file.
const DISTRUSTED: &str = "distrusted ";
/// The folder with the journal's segments, and the name under which the log remembers it.
pub const JOURNAL_DIR: &str = "journal";
const SEED_BYTES: usize = 32;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// There is no node in it.
    #[error("no node in {0}; `quorate up` makes one")]
    Missing(PathBuf),
    /// Others may read the key.
    #[error(
        "{path} can be read by others (mode {mode:o}); whoever read it can write in this node's \
         name. If nobody did: chmod 600 {path}"
    )]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The key's file is not one.
    #[error("{path} has {bytes} bytes where a key has {SEED_BYTES}; restore it from a backup")]
    NotAKey {
        /// The key's file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// A log without the key that wrote it.
    #[error(
        "{0} holds a log and no identity.key; restore the key, or start with an empty directory"
    )]
    NoKey(PathBuf),
    /// The journal that was there is gone.
    #[error(
        "{0} is gone, and with it what this node has promised to its cluster: start with an empty \
         directory, and let the cluster replace the node"
    )]
    NoJournal(PathBuf),
    /// The file system refused.
    #[error("{path}: {error}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A data directory, locked for this process through its log.
#[derive(Debug)]
pub struct DataDir {
    /// The node's secret.
    pub seed: [u8; SEED_BYTES],
    /// The log; as long as it lives nobody else can open the directory.
    pub storage: Storage,
    /// The journal of what concerns its cluster.
    pub journal: Journal,
    /// Whether the log may be an old copy.
    pub suspect: bool,
    /// The file which says that the journal may be an old copy, if it is there: the node removes it when
    /// it takes part in a cluster anew.
    pub old_journal: Option<PathBuf>,
}

impl DataDir {
    /// Opens the directory at `path`; where there is no node yet, makes one if `create`.
    ///
    /// # Errors
    ///
    /// Where there is no node and none was to be made, the key is missing or exposed, or the file system
    /// or the log refuses.
    pub fn open(path: &Path, create: bool) -> Result<DataDir, DataDirError> {
        let key = path.join(IDENTITY_FILE);
        if exists(&key)? {
            let seed = read_seed(&key)?;
            let had_log = exists(&path.join(FILE_NAME))?;
            let storage = Storage::open(path)?;
            let journal = open_journal(path, &storage)?;
            let instance = instance(path)?;
            if instance == Instance::Other {
                note_old_journal(path)?;
            }
            let suspect = !had_log || instance != Instance::Trusted;
            let old_journal = old_journal(path)?;
            return Ok(DataDir { seed, storage, journal, suspect, old_journal });
        }
        if !create {
            return Err(DataDirError::Missing(path.to_owned()));
        }
        make_private(path)?;
        // The key comes last: a directory with a key is complete.
        let storage = Storage::open(path)?;
        if storage.next_position() > 0 {
            return Err(DataDirError::NoKey(path.to_owned()));
        }
        let journal = open_journal(path, &storage)?;
        restrict(&path.join(FILE_NAME), 0o600)?;
        trust_log(path)?;
        let mut seed = [0; SEED_BYTES];
        getrandom::fill(&mut seed).expect("the system has randomness");
        replace(&key, &seed)?;
        Ok(DataDir { seed, storage, journal, suspect: false, old_journal: None })
    }
}

/// Opens the journal, which stays once it is there: the log remembers it.
fn open_journal(path: &Path, storage: &Storage) -> Result<Journal, DataDirError> {
    let path = path.join(JOURNAL_DIR);
    let journal = Journal::open(&path)?;
    let known = storage.meta(JOURNAL_DIR)?.is_some();
    match (journal.segments() > 0, known) {
        (false, true) => return Err(DataDirError::NoJournal(path)),
        (true, false) => storage.set_meta(JOURNAL_DIR, b"begun")?,
        _ => {}
    }
    Ok(journal)
}

/// The id of the node in the directory at `path`, which need not be free.
///
/// # Errors
///
/// Where there is no node, its key is exposed or is none, or the file system refuses.
pub fn node_id(path: &Path) -> Result<NodeId, DataDirError> {
    let key = path.join(IDENTITY_FILE);
    if !exists(&key)? {
        return Err(DataDirError::Missing(path.to_owned()));
    }
    Ok(quorate_core::identity::Identity::from_seed(read_seed(&key)?).id())
}

/// Takes the log in the directory at `path` for the latest one from now on.
///
/// # Errors
///
/// Where the file system refuses.
pub fn trust_log(path: &Path) -> Result<(), DataDirError> {
    let instance = fingerprint(path)?;
    replace(&path.join(INSTANCE_FILE), instance.as_bytes())
}

/// Takes the log in the directory at `path` for one that lacks something, until
/// [`trust_log`].
///
/// # Errors
///
/// Where the file system refuses.
pub fn distrust_log(path: &Path) -> Result<(), DataDirError> {
    let instance = format!("{DISTRUSTED}{}", fingerprint(path)?);
    replace(&path.join(INSTANCE_FILE), instance.as_bytes())
}

/// Takes the journal in the directory at `path` for the latest one from now on.
///
/// # Errors
///
/// Where the file system refuses.
pub fn trust_journal(path: &Path) -> Result<(), DataDirError> {
    forget_old_journal(&path.join(OLD_JOURNAL_FILE))
}

/// Removes the file which says that a journal may be an old copy.
pub(super) fn forget_old_journal(note: &Path) -> Result<(), DataDirError> {
    match fs::remove_file(note) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(note, error)),
        _ => note.parent().map_or(Ok(()), sync_dir),
    }
}

/// Notes that the journal may be an old copy.
fn note_old_journal(path: &Path) -> Result<(), DataDirError> {
    let note = path.join(OLD_JOURNAL_FILE);
    if exists(&note)? {
        return Ok(());
    }
    replace(&note, b"the journal may be an old copy; see quorate doctor\n")
}

fn old_journal(path: &Path) -> Result<Option<PathBuf>, DataDirError> {
    let note = path.join(OLD_JOURNAL_FILE);
    Ok(exists(&note)?.then_some(note))
}

/// Makes the directory at `path` its owner's alone; unless it holds something already, for then it may
/// be one that others use.
fn make_private(path: &Path) -> Result<(), DataDirError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| io_at(path, error))?;
    let mut inside = fs::read_dir(path).map_err(|error| io_at(path, error))?;
    if inside.next().is_none() { restrict(path, 0o700) } else { Ok(()) }
}

fn restrict(path: &Path, mode: u32) -> Result<(), DataDirError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|error| io_at(path, error))
}

fn sync_dir(path: &Path) -> Result<(), DataDirError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| io_at(path, error))
}

/// What the log is, by its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instance {
    /// The file that this node has been writing to.
    Trusted,
    /// That file, and something was lacking in it when it was last looked at.
    Distrusted,
    /// Another file, or one of which nothing is known.
    Other,
}

fn instance(path: &Path) -> Result<Instance, DataDirError> {
    let kept = match fs::read_to_string(path.join(INSTANCE_FILE)) {
        Ok(kept) => kept,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => return Ok(Instance::Other),
            _ => return Err(io_at(&path.join(INSTANCE_FILE), error)),
        },
    };
    let here = fingerprint(path)?;
    Ok(match kept.strip_prefix(DISTRUSTED) {
        None if kept == here => Instance::Trusted,
        Some(kept) if kept == here => Instance::Distrusted,
        _ => Instance::Other,
    })
}

/// What tells the log's file from a copy of it.
fn fingerprint(path: &Path) -> Result<String, DataDirError> {
    let file = path.join(FILE_NAME);
    let meta = fs::metadata(&file).map_err(|error| io_at(&file, error))?;
    let born = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(match born {
        Some(born) => format!("inode {} born {}\n", meta.ino(), born.as_nanos()),
        None => format!("inode {} device {}\n", meta.ino(), meta.dev()),
    })
}

fn read_seed(path: &Path) -> Result<[u8; SEED_BYTES], DataDirError> {
    let mut file = File::open(path).map_err(|error| io_at(path, error))?;
    let mode = file.metadata().map_err(|error| io_at(path, error))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(DataDirError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    let read = (&mut file).take(SEED_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| io_at(path, error))?;
    let not_a_key = DataDirError::NotAKey { path: path.to_owned(), bytes: bytes.len() };
    bytes.try_into().map_err(|_| not_a_key)
}

/// Writes a file that only its owner may read, whole or not at all, and durably.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    let beside = path.with_extension("new");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| io_at(path, error))?;
    path.parent().map_or(Ok(()), sync_dir)
}

fn exists(path: &Path) -> Result<bool, DataDirError> {
    path.try_exists().map_err(|error| io_at(path, error))
}

fn io_at(path: &Path, error: io::Error) -> DataDirError {
    match error.kind() {
        io::ErrorKind::StorageFull => StorageError::DiskFull(error).into(),
        _ => DataDirError::Io { path: path.to_owned(), error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn made() -> (tempfile::TempDir, PathBuf, [u8; 32]) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let seed = DataDir::open(&path, true).unwrap().seed;
        (temp, path, seed)
    }

    #[test]
    fn a_new_directory_is_its_owners_alone_and_keeps_its_key() {
        let (_temp, path, seed) = made();
        assert_eq!((mode(&path), mode(&path.join(IDENTITY_FILE))), (0o700, 0o600));
        let again = DataDir::open(&path, false).unwrap();
        assert_eq!((again.seed, again.suspect), (seed, false));
        let id = node_id(&path).unwrap();
        assert_eq!(id, quorate_core::identity::Identity::from_seed(seed).id());
    }

    #[test]
    fn a_directory_that_holds_other_things_keeps_its_permissions() {
        let temp = tempfile::tempdir().unwrap();
        let (shared, empty) = (temp.path().join("shared"), temp.path().join("empty"));
        for path in [&shared, &empty] {
            fs::create_dir(path).unwrap();
            restrict(path, 0o755).unwrap();
        }
        fs::write(shared.join("other"), b"").unwrap();
        for (path, expected) in [(&shared, 0o755), (&empty, 0o700)] {
            drop(DataDir::open(path, true).unwrap());
            assert_eq!(mode(path), expected);
            assert_eq!(mode(&path.join(FILE_NAME)), 0o600);
        }
    }

    #[test]
    fn two_directories_have_two_keys() {
        assert_ne!(made().2, made().2);
    }

    #[test]
    fn nothing_is_made_unasked() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("none");
        assert!(matches!(DataDir::open(&path, false), Err(DataDirError::Missing(_))));
        assert!(!path.exists());
    }

    #[test]
    fn an_exposed_key_is_refused() {
        let (_temp, path, _) = made();
        let key = path.join(IDENTITY_FILE);
        fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
        let refused = DataDir::open(&path, true).unwrap_err();
        assert!(matches!(refused, DataDirError::Exposed { mode: 0o640, .. }), "{refused}");
    }

    #[test]
    fn a_short_key_is_refused() {
        let (_temp, path, _) = made();
        fs::write(path.join(IDENTITY_FILE), b"short").unwrap();
        let refused = DataDir::open(&path, true).unwrap_err();
        assert!(matches!(refused, DataDirError::NotAKey { bytes: 5, .. }), "{refused}");
    }

    #[test]
    fn a_copied_log_is_suspect_until_it_is_trusted() {
        let (temp, path, _) = made();
        let copy = temp.path().join("copy");
        fs::create_dir(&copy).unwrap();
        for name in [IDENTITY_FILE, INSTANCE_FILE, FILE_NAME] {
            fs::copy(path.join(name), copy.join(name)).unwrap();
        }
        assert!(DataDir::open(&copy, false).unwrap().suspect);
        trust_log(&copy).unwrap();
        assert!(!DataDir::open(&copy, false).unwrap().suspect);
    }

    #[test]
    fn a_copied_journal_stays_old_until_its_owner_trusts_it() {
        let (temp, path, _) = made();
        assert!(DataDir::open(&path, false).unwrap().old_journal.is_none());
        let copy = temp.path().join("copy");
        fs::create_dir(&copy).unwrap();
        for name in [IDENTITY_FILE, INSTANCE_FILE, FILE_NAME] {
            fs::copy(path.join(name), copy.join(name)).unwrap();
        }
        let is_old = || DataDir::open(&copy, false).unwrap().old_journal;
        let note = copy.join(OLD_JOURNAL_FILE);
        assert_eq!(is_old(), Some(note.clone()));
        assert!(note.exists(), "for the next start, whatever becomes of this one");
        trust_log(&copy).unwrap();
        assert_eq!(is_old(), Some(note), "the stores are whole, which says nothing of the journal");
        trust_journal(&copy).unwrap();
        trust_journal(&copy).unwrap();
        assert_eq!(is_old(), None);
    }

    #[test]
    fn a_log_that_lacks_something_says_nothing_of_the_journal() {
        let (temp, path, _) = made();
        distrust_log(&path).unwrap();
        let opened = DataDir::open(&path, false).unwrap();
        assert!(opened.suspect && opened.old_journal.is_none());
        drop(opened);
        // What restores it makes it another file.
        let beside = temp.path().join("beside");
        fs::copy(path.join(FILE_NAME), &beside).unwrap();
        fs::rename(&beside, path.join(FILE_NAME)).unwrap();
        assert!(DataDir::open(&path, false).unwrap().old_journal.is_some());
        trust_journal(&path).unwrap();
        // A backup may lack the mark.
        fs::remove_file(path.join(INSTANCE_FILE)).unwrap();
        assert!(DataDir::open(&path, false).unwrap().old_journal.is_some());
    }

    #[test]
    fn a_key_without_its_log_is_suspect_and_a_log_without_its_key_refused() {
        let (_temp, path, _) = made();
        fs::remove_file(path.join(FILE_NAME)).unwrap();
        let opened = DataDir::open(&path, false).unwrap();
        assert!(opened.suspect);
        opened.storage.append(&[(0, "a record".into())]).unwrap();
        drop(opened);
        fs::remove_file(path.join(IDENTITY_FILE)).unwrap();
        assert!(matches!(DataDir::open(&path, true), Err(DataDirError::NoKey(_))));
    }
}
