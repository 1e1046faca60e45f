//! Names in directories.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Bytes of a name that lie in the inode itself.
const SHORT: usize = 22;

/// A name. Most are short: of a million files, what the allocator takes for each would be more than their names.
#[derive(Clone)]
pub struct Name(Repr);

#[derive(Clone)]
enum Repr {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Short(length, bytes) => &bytes[..usize::from(*length)],
            Repr::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Name {
    fn from(name: &[u8]) -> Name {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..name.len()) {
            Some(start) => {
                start.copy_from_slice(name);
                Name(Repr::Short(name.len() as u8, bytes))
            }
            None => Name(Repr::Long(name.into())),
        }
    }
}

impl Default for Name {
    fn default() -> Name {
        Name(Repr::Short(0, [0; SHORT]))
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_bytes_however_long() {
        assert_eq!(size_of::<Name>(), 24);
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 255] {
            let bytes = vec![b'n'; length];
            let name = Name::from(&bytes[..]);
            assert_eq!((&*name, name.clone() == name), (&bytes[..], true), "{length}");
            assert!(length == 0 || Name::from(&bytes[1..]) < name, "{length}");
        }
    }
}
