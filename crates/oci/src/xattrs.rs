//! Extended attributes of a file.

use std::ops::Deref;

/// Name and value of one attribute.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

type List = Vec<Xattr>;

/// Extended attributes, sorted by name. Hardly a file has any, and there may be millions: having none takes one pointer.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Xattrs(Option<Box<List>>);

impl Xattrs {
    /// None.
    pub const fn new() -> Xattrs {
        Xattrs(None)
    }

    /// Adds one at the end.
    pub fn push(&mut self, attribute: Xattr) {
        self.0.get_or_insert_default().push(attribute);
    }

    /// Sorts them by name.
    pub fn sort(&mut self) {
        if let Some(list) = &mut self.0 {
            list.sort();
        }
    }

    /// Keeps some of them.
    pub fn retain(&mut self, wanted: impl FnMut(&Xattr) -> bool) {
        if let Some(list) = &mut self.0 {
            list.retain(wanted);
            // Equal lists are equal in memory, too.
            self.0.take_if(|list| list.is_empty());
        }
    }
}

impl std::fmt::Debug for Xattrs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Deref for Xattrs {
    type Target = [Xattr];

    fn deref(&self) -> &[Xattr] {
        self.0.as_ref().map_or(&[], |list| list)
    }
}

impl From<Vec<Xattr>> for Xattrs {
    fn from(list: Vec<Xattr>) -> Xattrs {
        Xattrs((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl FromIterator<Xattr> for Xattrs {
    fn from_iter<I: IntoIterator<Item = Xattr>>(attributes: I) -> Xattrs {
        Vec::from_iter(attributes).into()
    }
}

impl<'a> IntoIterator for &'a Xattrs {
    type Item = &'a Xattr;
    type IntoIter = std::slice::Iter<'a, Xattr>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Xattrs {
    type Item = Xattr;
    type IntoIter = std::vec::IntoIter<Xattr>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.map_or_else(Vec::new, |list| *list).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_none_however_it_came_about() {
        assert_eq!(size_of::<Xattrs>(), size_of::<usize>());
        let one = (b"user.a".to_vec(), b"1".to_vec());
        let mut x = Xattrs::from(vec![one.clone()]);
        assert_eq!((x.len(), &x[0]), (1, &one));
        x.retain(|_| false);
        assert_eq!(x, Xattrs::new());
        assert_eq!(Xattrs::from(Vec::new()), Xattrs::new());
    }
}
