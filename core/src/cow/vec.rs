//! An indexed vector that clones in constant time. See the [parent module](super).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::CowMap;

/// Elements in a chunk: as many as one push to a shared vector may have to copy.
const CHUNK: usize = 64;

/// A vector that clones in constant time and copies only what is written while shared. Made for
/// appending: the end is at hand, anything else is a search among the chunks.
///
/// ```
/// use quorate_core::cow::CowVec;
///
/// let mut log: CowVec<u32> = (0..100).collect();
/// let before = log.clone();
/// log.truncate(98);
/// log.push(7);
/// assert!(log.iter_from(97).eq(&[97, 7]));
/// assert_eq!(before.len(), 100);
/// ```
pub struct CowVec<T> {
    /// Full chunks by their number, from zero and without gaps.
    full: CowMap<usize, Arc<Vec<T>>>,
    /// The last chunk; none only while the vector is empty, and itself never empty.
    tail: Option<Arc<Vec<T>>>,
}

impl<T> CowVec<T> {
    /// An empty vector; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { full: CowMap::new(), tail: None }
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full.len() * CHUNK + self.tail.as_ref().map_or(0, |tail| tail.len())
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tail.is_none()
    }

    /// The element at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        let chunk = index / CHUNK;
        let chunk =
            if chunk == self.full.len() { self.tail.as_ref() } else { self.full.get(&chunk) };
        chunk?.get(index % CHUNK)
    }

    /// The last element.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.tail.as_ref()?.last()
    }

    /// All elements.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.iter_from(0)
    }

    /// The elements from `index` on; none if it lies beyond the end.
    pub fn iter_from(&self, index: usize) -> impl DoubleEndedIterator<Item = &T> {
        let first = index / CHUNK;
        let rest = move |number: usize, chunk: &'_ Arc<Vec<T>>| -> usize {
            let skip = index.saturating_sub(number.saturating_mul(CHUNK));
            skip.min(chunk.len())
        };
        let full = self.full.range(first..).map(|(number, chunk)| (*number, chunk));
        let tail = self.tail.as_ref().map(|tail| (self.full.len(), tail));
        full.chain(tail).flat_map(move |(number, chunk)| &chunk[rest(number, chunk)..])
    }
}

impl<T: Clone> CowVec<T> {
    /// Appends `value`.
    pub fn push(&mut self, value: T) {
        let tail = self.tail.get_or_insert_with(|| Arc::new(Vec::new()));
        if tail.len() == CHUNK {
            let full = core::mem::replace(tail, Arc::new(Vec::new()));
            self.full.insert(self.full.len(), full);
        }
        let tail = Arc::make_mut(tail);
        if tail.len() == tail.capacity() {
            // From one place up: there are many vectors with few elements.
            tail.reserve_exact(tail.len().clamp(1, CHUNK - tail.len()));
        }
        tail.push(value);
    }

    /// The element at `index`, to be written.
    #[must_use]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let chunk = index / CHUNK;
        if index >= self.len() {
            return None;
        }
        let chunk =
            if chunk == self.full.len() { self.tail.as_mut() } else { self.full.get_mut(&chunk) };
        Arc::make_mut(chunk?).get_mut(index % CHUNK)
    }

    /// Drops the elements from `len` on; does nothing if there are none.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        // As many full chunks as leave a tail that is not empty.
        let full = len.saturating_sub(1) / CHUNK;
        while self.full.len() > full {
            self.tail = self.full.remove(&(self.full.len() - 1));
        }
        if len == 0 {
            self.tail = None;
        } else if let Some(tail) = &mut self.tail
            && tail.len() > len - full * CHUNK
        {
            let kept = len - full * CHUNK;
            match Arc::get_mut(tail) {
                Some(tail) => tail.truncate(kept),
                // Shared: only what is kept is copied.
                None => *tail = Arc::new(tail[..kept].to_vec()),
            }
        }
    }
}

impl<T> Clone for CowVec<T> {
    fn clone(&self) -> Self {
        Self { full: self.full.clone(), tail: self.tail.clone() }
    }
}

impl<T> Default for CowVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for CowVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq> PartialEq for CowVec<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for CowVec<T> {}

impl<T: Clone> FromIterator<T> for CowVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut vec = Self::new();
        vec.extend(values);
        vec
    }
}

impl<T: Clone> Extend<T> for CowVec<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        for value in values {
            self.push(value);
        }
    }
}
