//! Entries that follow one another, shared by all who hold them.
//!
//! A leader makes a page once; its log, its record, its messages and its events point to it, and in
//! one process so do those of its followers. So what an entry costs does not grow with how many
//! places it is in.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::message::Entry;

/// Entries in order; a slice of them that clones in constant time.
#[derive(Clone, Default)]
pub struct Page {
    entries: Option<Arc<[Entry]>>,
    from: u32,
    to: u32,
}

impl Page {
    /// None.
    pub const EMPTY: Page = Page { entries: None, from: 0, to: 0 };

    /// Those from the `from`th on, before the `to`th; fewer if there are not as many.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Page {
        let to = to.min(self.len());
        if from >= to {
            return Page::EMPTY;
        }
        let (from, to) = (self.from + from as u32, self.from + to as u32);
        Page { entries: self.entries.clone(), from, to }
    }

    /// The same from the `from`th on.
    #[must_use]
    pub(super) fn after(mut self, from: usize) -> Page {
        self.from = (self.from + from as u32).min(self.to);
        self
    }
}

impl Deref for Page {
    type Target = [Entry];

    #[inline]
    fn deref(&self) -> &[Entry] {
        match &self.entries {
            Some(entries) => &entries[self.from as usize..self.to as usize],
            None => &[],
        }
    }
}

impl From<Arc<[Entry]>> for Page {
    fn from(entries: Arc<[Entry]>) -> Page {
        let to = u32::try_from(entries.len()).expect("a page has a limit");
        Page { entries: Some(entries), from: 0, to }
    }
}

impl From<Vec<Entry>> for Page {
    fn from(entries: Vec<Entry>) -> Page {
        if entries.is_empty() { Page::EMPTY } else { Page::from(Arc::from(entries)) }
    }
}

impl FromIterator<Entry> for Page {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Page {
        Page::from(entries.into_iter().collect::<Arc<[Entry]>>())
    }
}

impl<'a> IntoIterator for &'a Page {
    type Item = &'a Entry;
    type IntoIter = core::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Page {
    fn eq(&self, other: &Page) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Page {}

impl Hash for Page {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

impl Serialize for Page {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self[..].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Page, D::Error> {
        Vec::deserialize(deserializer).map(Page::from)
    }
}
