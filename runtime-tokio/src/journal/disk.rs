//! What a journal needs of a disk: a few files, each named by a number.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// How the files of a directory's segments end.
const SUFFIX: &str = ".journal";

/// The files of a journal. A write may be lost, or be there in part, until the file is synced; a file
/// made or removed, until the names are.
pub trait Disk: Debug + Send + 'static {
    /// The files there are, in ascending order.
    fn list(&self) -> io::Result<Vec<u64>>;
    /// Makes an empty file.
    fn create(&mut self, file: u64) -> io::Result<()>;
    /// All of a file.
    fn read(&self, file: u64) -> io::Result<Vec<u8>>;
    /// Writes all of `bytes` at `offset`, which is at most the file's length.
    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes durable what was written to a file.
    fn sync(&mut self, file: u64) -> io::Result<()>;
    /// Makes durable which files there are.
    fn sync_names(&mut self) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, file: u64) -> io::Result<()>;
    /// What a person knows a file by.
    fn name(&self, file: u64) -> String;
}

/// A directory of a file system, which only its owner may read.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The file that was written to last.
    open: Option<(u64, File)>,
}

impl Directory {
    /// The directory at `path`; it is made with the first file.
    #[must_use]
    pub fn new(path: &Path) -> Directory {
        Directory { path: path.to_owned(), open: None }
    }

    fn path_of(&self, file: u64) -> PathBuf {
        self.path.join(format!("{file:020}{SUFFIX}"))
    }

    fn file(&mut self, file: u64) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != file) {
            let opened = OpenOptions::new().write(true).open(self.path_of(file))?;
            self.open = Some((file, opened));
        }
        self.open.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<u64>> {
        let mut files = Vec::new();
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            files.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        files.sort_unstable();
        Ok(files)
    }

    fn create(&mut self, file: u64) -> io::Result<()> {
        if !self.path.try_exists()? {
            fs::create_dir_all(&self.path)?;
            let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all())?;
        }
        let path = self.path_of(file);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.open = Some((file, made));
        Ok(())
    }

    fn read(&self, file: u64) -> io::Result<Vec<u8>> {
        fs::read(self.path_of(file))
    }

    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(file)?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, file: u64) -> io::Result<()> {
        self.file(file)?.sync_data()
    }

    fn sync_names(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn remove(&mut self, file: u64) -> io::Result<()> {
        self.open.take_if(|(open, _)| *open == file);
        fs::remove_file(self.path_of(file))
    }

    fn name(&self, file: u64) -> String {
        self.path_of(file).display().to_string()
    }
}

/// A disk in memory, for hosts that are simulated: it loses nothing. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<u64, Vec<u8>>>>);

impl Memory {
    fn files(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        self.0.lock().expect("nothing panics with the lock held")
    }
}

impl Disk for Memory {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.files().keys().copied().collect())
    }
    fn create(&mut self, file: u64) -> io::Result<()> {
        self.files().insert(file, Vec::new());
        Ok(())
    }
    fn read(&self, file: u64) -> io::Result<Vec<u8>> {
        self.files().get(&file).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let file = files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?;
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        file.resize(file.len().max(end), 0);
        file[start..end].copy_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync_names(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn remove(&mut self, file: u64) -> io::Result<()> {
        self.files().remove(&file);
        Ok(())
    }
    fn name(&self, file: u64) -> String {
        format!("segment {file} in memory")
    }
}
