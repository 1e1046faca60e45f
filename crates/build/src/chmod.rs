//! The value of `--chmod`: octal (0 to 07777) or symbolic (`u=rwX,go=rX`), as BuildKit takes it.
//!
//! A symbolic mode is a list of clauses `[ugoa]*([-+=][rwxXstugo]*)+`, divided by commas and applied in order. It is BSD's
//! setmode(3), not GNU's chmod, with no umask:
//!
//! - without a class, all are meant; `=` then clears the set-ID bits, too;
//! - `X` is execute for directories and for files that anybody may execute *before* the first clause; after `-` it is `x`;
//! - `t` makes the sticky bit part of the class, which without another class is then the whole of it (`+rt` sets no `r`);
//! - `s` and `t` do nothing for others alone;
//! - `u`, `g` and `o` copy the permissions of a class as they are at that point, after the bits that stand before them.

use serde::Serialize;

const EXECUTE: u32 = 0o111;
const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const OTHERS: u32 = 0o007;
const EVERYTHING: u32 = 0o7777;

/// A parsed `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Chmod {
    /// All twelve bits.
    Octal(u32),
    /// Actions, applied in order.
    Symbolic(Vec<Action>),
}

/// One action of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Sets bits.
    Set(u32),
    /// Clears bits.
    Clear(u32),
    /// Sets bits if the source is a directory or may be executed by anybody.
    SetIfExecutable(u32),
    /// Gives the permissions of one class to others.
    Copy {
        /// How far the class's permissions are shifted to the left: 6, 3 or 0 bits.
        from: u32,
        /// The classes that get them, as masks of their permissions.
        to: u32,
        /// `+`, `-` or `=`.
        op: char,
    },
}

/// A `--chmod` that is neither.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
pub struct ChmodError(String);

impl Chmod {
    /// Reads the flag's value.
    pub fn parse(text: &str) -> Result<Chmod, ChmodError> {
        let bad = || ChmodError(text.to_owned());
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(m) if m <= EVERYTHING => Ok(Chmod::Octal(m)),
                _ => Err(bad()),
            };
        }
        let mut actions = Vec::new();
        // Whether the last `=` has cleared its class: it does so once, though bits and copies may follow it.
        let mut cleared = false;
        for clause in text.split(',') {
            let ops = clause.trim_start_matches(['u', 'g', 'o', 'a']);
            let mut who = clause[..clause.len() - ops.len()].chars().fold(0, |who, c| who | class(c));
            let mut rest = ops.chars().peekable();
            if rest.peek().is_none() {
                return Err(bad());
            }
            while let Some(op) = rest.next() {
                match op {
                    '=' => cleared = false,
                    '+' | '-' => {}
                    _ => return Err(bad()),
                }
                who &= !STICKY;
                let (mut bits, mut execute) = (0, 0);
                while let Some(c) = rest.next_if(|c| "rwxXstugo".contains(*c)) {
                    match c {
                        'r' => bits |= 0o444,
                        'w' => bits |= 0o222,
                        'X' if op != '-' => execute = EXECUTE,
                        'x' | 'X' => bits |= EXECUTE,
                        's' if who == 0 || who & !OTHERS != 0 => bits |= SET_ID,
                        't' if who == 0 || who & !OTHERS != 0 => {
                            who |= STICKY;
                            bits |= STICKY;
                        }
                        's' | 't' => {}
                        _ => {
                            if bits != 0 {
                                change(&mut actions, op, who, std::mem::take(&mut bits));
                            }
                            cleared |= op == '=';
                            set_if_executable(&mut actions, who, std::mem::take(&mut execute));
                            let to = if who == 0 { 0o777 } else { readable(who) };
                            actions.push(Action::Copy { from: shift(c), to, op });
                        }
                    }
                }
                if bits != 0 || op == '=' && !cleared {
                    cleared |= op == '=';
                    change(&mut actions, op, who, bits);
                }
                set_if_executable(&mut actions, who, execute);
            }
        }
        Ok(Chmod::Symbolic(actions))
    }

    /// The twelve bits for a source with `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let actions = match self {
            Chmod::Octal(m) => return *m,
            Chmod::Symbolic(a) => a,
        };
        let executable = is_dir || mode & EXECUTE != 0;
        actions.iter().fold(mode & EVERYTHING, |mode, action| match action {
            Action::Set(bits) => mode | bits,
            Action::Clear(bits) => mode & !bits,
            Action::SetIfExecutable(bits) if executable => mode | bits,
            Action::SetIfExecutable(_) => mode,
            Action::Copy { from, to, op } => {
                let bits = mode >> from & 7;
                let bits = (bits << 6 | bits << 3 | bits) & to;
                match op {
                    '+' => mode | bits,
                    '-' => mode & !bits,
                    _ => mode & !to | bits,
                }
            }
        })
    }
}

fn class(c: char) -> u32 {
    match c {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => OTHERS,
        _ => 0o6777,
    }
}

fn shift(class: char) -> u32 {
    match class {
        'u' => 6,
        'g' => 3,
        _ => 0,
    }
}

/// The permissions of the classes that are in `who`.
fn readable(who: u32) -> u32 {
    let read = who & 0o444;
    read | read >> 1 | read >> 2
}

fn change(actions: &mut Vec<Action>, op: char, who: u32, bits: u32) {
    let meant = if who == 0 { bits } else { who & bits };
    match op {
        '-' => actions.push(Action::Clear(meant)),
        _ => {
            if op == '=' {
                actions.push(Action::Clear(if who == 0 { class('a') } else { who }));
            }
            actions.push(Action::Set(meant));
        }
    }
}

fn set_if_executable(actions: &mut Vec<Action>, who: u32, execute: u32) {
    if execute != 0 {
        actions.push(Action::SetIfExecutable(if who == 0 { execute } else { who & execute }));
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
        assert_eq!(apply("go=u-w", 0o700, false), Ok(0o755));
        for bad in ["", "8", "99999", "64a", "u", "rwx", "u=rq", "u=r,", "10000", "+r,,+w", "u=r=é"] {
            assert!(Chmod::parse(bad).is_err(), "{bad}");
        }
    }

    /// As BuildKit's library answers.
    #[test]
    fn what_setmode_does_and_chmod_does_not() {
        let apply = |text: &str, mode, dir| Chmod::parse(text).unwrap().apply(mode, dir);
        assert_eq!(apply("a-x+X", 0o4755, false), 0o4755, "X goes by the mode before all");
        assert_eq!(apply("u+x,g+X", 0o644, false), 0o744);
        assert_eq!(apply("-X", 0o755, false), 0o644);
        assert_eq!(apply("=r", 0o6755, false), 0o444);
        assert_eq!(apply("=r", 0o1755, false), 0o1444);
        assert_eq!(apply("a=rt", 0o755, false), 0o1444);
        assert_eq!(apply("+rt", 0o200, false), 0o1200, "the class is the sticky bit alone");
        assert_eq!(apply("o+st", 0o644, false), 0o644);
        assert_eq!(apply("u=gr", 0o071, false), 0o471);
        assert_eq!(apply("u=rg", 0o031, false), 0o331, "the copy takes the place of the bits before it");
    }
}
