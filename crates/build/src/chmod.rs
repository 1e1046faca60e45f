//! The value of `--chmod`: octal (0 to 07777) or symbolic (`u=rwX,go=rX`), as BuildKit takes it.
//!
//! A symbolic mode is a list of clauses `[ugoa]*([-+=][rwxXst]*|[-+=][ugo])+` applied to the source's mode; without a class it
//! means all, with no umask. `X` is execute for directories and for files that anybody may execute already.

use serde::Serialize;

/// A parsed `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Chmod {
    /// All twelve bits.
    Octal(u32),
    /// Clauses, applied in order.
    Symbolic(Vec<Clause>),
}

/// One action of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Clause {
    /// Which classes, as the bits `0o7` each of user, group and others stands in.
    who: u32,
    op: char,
    perms: Perms,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
enum Perms {
    Bits { rwx: u32, exec_if: bool, setid: bool, sticky: bool },
    CopyOf(char),
}

/// A `--chmod` that is neither.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
pub struct ChmodError(String);

impl Chmod {
    /// Reads the flag's value.
    pub fn parse(text: &str) -> Result<Chmod, ChmodError> {
        let bad = || ChmodError(text.to_owned());
        if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(m) if m <= 0o7777 => Ok(Chmod::Octal(m)),
                _ => Err(bad()),
            };
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let mut chars = part.chars().peekable();
            let mut who = 0;
            while let Some(c) = chars.next_if(|c| "ugoa".contains(*c)) {
                who |= match c {
                    'u' => 0o700,
                    'g' => 0o070,
                    'o' => 0o007,
                    _ => 0o777,
                };
            }
            if who == 0 {
                who = 0o777;
            }
            let mut actions = 0;
            while let Some(op) = chars.next_if(|c| "+-=".contains(*c)) {
                let perms = match chars.next_if(|c| "ugo".contains(*c)) {
                    Some(class) => Perms::CopyOf(class),
                    None => {
                        let (mut rwx, mut exec_if, mut setid, mut sticky) = (0, false, false, false);
                        while let Some(c) = chars.next_if(|c| "rwxXst".contains(*c)) {
                            match c {
                                'r' => rwx |= 0o444,
                                'w' => rwx |= 0o222,
                                'x' => rwx |= 0o111,
                                'X' => exec_if = true,
                                's' => setid = true,
                                _ => sticky = true,
                            }
                        }
                        Perms::Bits { rwx, exec_if, setid, sticky }
                    }
                };
                clauses.push(Clause { who, op, perms });
                actions += 1;
            }
            if actions == 0 || chars.next().is_some() {
                return Err(bad());
            }
        }
        Ok(Chmod::Symbolic(clauses))
    }

    /// The twelve bits for a source with `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let clauses = match self {
            Chmod::Octal(m) => return *m,
            Chmod::Symbolic(c) => c,
        };
        let mut mode = mode & 0o7777;
        for c in clauses {
            let mut special = 0;
            let rwx = match &c.perms {
                Perms::Bits { rwx, exec_if, setid, sticky } => {
                    if *setid {
                        special |= if c.who & 0o700 != 0 { 0o4000 } else { 0 };
                        special |= if c.who & 0o070 != 0 { 0o2000 } else { 0 };
                    }
                    if *sticky {
                        special |= 0o1000;
                    }
                    let exec = if *exec_if && (is_dir || mode & 0o111 != 0) { 0o111 } else { 0 };
                    (rwx | exec) & c.who
                }
                Perms::CopyOf(class) => {
                    let bits = match class {
                        'u' => mode >> 6,
                        'g' => mode >> 3,
                        _ => mode,
                    } & 7;
                    (bits << 6 | bits << 3 | bits) & c.who
                }
            };
            match c.op {
                '+' => mode |= rwx | special,
                '-' => mode &= !(rwx | special),
                _ => {
                    let cleared = c.who
                        | if c.who & 0o700 != 0 { 0o4000 } else { 0 }
                        | if c.who & 0o070 != 0 { 0o2000 } else { 0 };
                    mode = mode & !cleared | rwx | special;
                }
            }
        }
        mode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_symbolic() {
        let apply = |text: &str, mode, dir| Chmod::parse(text).map(|c| c.apply(mode, dir));
        assert_eq!(apply("755", 0o600, false), Ok(0o755));
        assert_eq!(apply("4755", 0o600, false), Ok(0o4755));
        assert_eq!(apply("u=rwX,go=rX", 0o640, false), Ok(0o644));
        assert_eq!(apply("u=rwX,go=rX", 0o740, false), Ok(0o755));
        assert_eq!(apply("u=rwX,go=rX", 0o600, true), Ok(0o755));
        assert_eq!(apply("+x", 0o644, false), Ok(0o755));
        assert_eq!(apply("go-rwx", 0o777, false), Ok(0o700));
        assert_eq!(apply("g=u,o=", 0o754, false), Ok(0o770));
        assert_eq!(apply("u+s,+t", 0o755, false), Ok(0o5755));
        for bad in ["", "8", "99999", "u", "rwx", "u=rq", "u=r,", "10000"] {
            assert!(Chmod::parse(bad).is_err(), "{bad}");
        }
    }
}
