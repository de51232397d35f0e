//! Why something that a carrier brought was not taken, and how often.

use core::fmt;

macro_rules! refusals {
    ($($(#[doc = $about:literal])* $name:ident = $text:literal,)*) => {
        /// Why something that a carrier brought was not taken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Refusal { $($(#[doc = $about])* $name),* }

        impl Refusal {
            /// Every reason there is.
            pub const ALL: &[Refusal] = &[$(Refusal::$name),*];

            /// The reason in words; also its name in metrics, with underscores for spaces.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Refusal::$name => $text),* }
            }
        }
    };
}

refusals! {
    /// More bytes than [`super::nostr::MAX_EVENT_BYTES`].
    Giant = "giant event",
    /// Its bytes are not UTF-8.
    NotUtf8 = "not utf-8",
    /// Not the JSON of an event.
    Malformed = "not an event",
    /// Of a kind that says nothing here.
    UnknownKind = "unknown kind",
    /// A tag without a name, or a required one without a value.
    EmptyTag = "empty tag",
    /// A required tag is not there.
    MissingTag = "missing tag",
    /// A tag that must be there once is there several times.
    RepeatedTag = "repeated tag",
    /// No content for people.
    EmptyContent = "empty content",
    /// A tag's value is longer than it may be.
    LongValue = "value too long",
    /// Neither `upgrade` nor `reboot`.
    UnknownAction = "unknown action",
    /// The hash is not 64 hexadecimal digits.
    BadHash = "bad hash",
    /// Not a semantic version.
    BadVersion = "bad version",
    /// A time that is no number.
    BadTime = "bad time",
    /// A genesis URL that is not one of HTTP(S).
    BadUrl = "bad url",
    /// A rollback of something that is not newer than its target, or by a reboot.
    BadRollback = "bad rollback",
    /// Neither `success` nor `failure`.
    BadStatus = "bad status",
    /// The address of the signal, a node's id or its signature is not what it must look like.
    BadAddress = "bad address",
    /// For another network.
    WrongNetwork = "wrong network",
    /// By a key that this node does not follow.
    NotFollowed = "author not followed",
    /// By a node that is not on the list.
    UnknownNode = "unknown node",
    /// About a release that has no quorum here.
    UnknownRelease = "unknown release",
    /// Later than the clock says it can be.
    FarFuture = "from the far future",
    /// Too old to count.
    Expired = "expired",
    /// A newer signal by the same maintainer is known.
    Superseded = "superseded",
    /// Known already.
    Duplicate = "duplicate",
    /// The id is not the event's hash.
    WrongId = "wrong id",
    /// Not signed by who it says.
    BadSignature = "bad signature",
    /// Not signed by enough of the old maintainers and of the new ones, or not their next set.
    BadSuccession = "bad succession",
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often each happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    pub(super) fn count(&mut self, refusal: Refusal) {
        self.0[refusal as usize] += 1;
    }

    /// How often `refusal` happened.
    #[must_use]
    pub fn get(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize]
    }

    /// Those that happened, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.iter().map(|refusal| (*refusal, self.get(*refusal))).filter(|(_, n)| *n > 0)
    }
}
