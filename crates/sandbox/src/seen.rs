//! What a step learned about a tree.

use oci::tree::Id;

/// Which facts about one inode a step learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bits(pub u8);

impl Bits {
    /// Type, mode, owner, size, links, link target, xattrs.
    pub const ATTR: Bits = Bits(1);
    /// The bytes of a file.
    pub const CONTENT: Bits = Bits(2);
    /// The names in a directory, and their types.
    pub const LIST: Bits = Bits(4);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Bits) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Bits {
    type Output = Bits;
    fn bitor(self, other: Bits) -> Bits {
        Bits(self.0 | other.0)
    }
}

/// What a step learned about one tree: the root's, or that of a view mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Inodes of the tree with what was learned of each, by number, none twice.
    pub inodes: Vec<(Id, Bits)>,
    /// Names that were looked for and are not there: directory and name, sorted, none twice.
    pub absent: Vec<(Id, Vec<u8>)>,
    /// Why the list may lack something; then it is good for nothing but display.
    pub incomplete: Option<String>,
}
