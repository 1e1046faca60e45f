//! Command lines of a POSIX shell, as far as a reader needs them who wants to know which programs are called with what.
//!
//! A line is taken apart into simple commands: words, and what stands between. Quotes and escapes are taken off the words; variables and
//! substitutions stay in them as written, and such words are not [`Word::literal`]. Of compound commands (`if`, `for`, `case`, braces,
//! parentheses, functions) the simple commands inside are given, one level deeper. Redirections are left out with their targets.
//! What is inside of `$(...)` and backquotes is not looked at.
//!
//! This never fails, and it takes time in proportion to the length of the text: what is no shell at all gives odd words.

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word without quotes.
    pub text: String,
    /// Where it begins in the text, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Whether it stands for itself: no variables, no substitutions. (`*` and the like may be in it.)
    pub literal: bool,
}

/// What stands between two commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// The end of the text, a line feed, `;`, or a word such as `then`.
    Then,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `|` or `|&`
    Pipe,
    /// `&`
    Background,
}

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// All its words, assignments in front included.
    pub words: Vec<Word>,
    /// What stands before it; [`Joint::Then`] for the first.
    pub before: Joint,
    /// What follows.
    pub after: Joint,
    /// In how many compound commands it is.
    pub depth: usize,
}

impl Command {
    /// The words from the program on: without assignments and without programs that only start another (`sudo`, `env`).
    pub fn argv(&self) -> &[Word] {
        let mut words = self.words.as_slice();
        while let Some((first, rest)) = words.split_first() {
            let name = base_name(&first.text);
            if is_assignment(&first.text) {
                words = rest;
            } else if matches!(name, "sudo" | "env" | "exec" | "command" | "time" | "nice" | "nohup") {
                words = rest;
                while words.first().is_some_and(|w| w.text.starts_with('-')) {
                    words = &words[1..];
                }
            } else {
                break;
            }
        }
        words
    }

    /// The program's name without its directory; empty if there is none.
    pub fn program(&self) -> &str {
        self.argv().first().map_or("", |word| base_name(&word.text))
    }

    /// The words behind the program.
    pub fn args(&self) -> &[Word] {
        self.argv().get(1..).unwrap_or_default()
    }

    /// Whether one of the arguments is this.
    pub fn has(&self, arg: &str) -> bool {
        self.args().iter().any(|word| word.text == arg)
    }

    /// The arguments that are no options.
    pub fn operands(&self) -> impl Iterator<Item = &Word> {
        self.args().iter().filter(|word| !word.text.starts_with('-'))
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Takes a text apart.
pub fn commands(text: &str) -> Vec<Command> {
    let mut parser =
        Parser { text, at: 0, depth: 0, words: Vec::new(), before: Joint::Then, out: Vec::new() };
    parser.run();
    parser.out
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    words: Vec<Word>,
    before: Joint,
    out: Vec<Command>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, what: &str) -> bool {
        let found = self.text[self.at..].starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    fn run(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                '\n' | ';' => {
                    self.at += 1;
                    self.end(Joint::Then);
                }
                c if c.is_whitespace() => self.at += c.len_utf8(),
                '\\' if self.text[self.at..].starts_with("\\\n") => self.at += 2,
                '#' => self.at += self.text[self.at..].find('\n').unwrap_or(self.text.len() - self.at),
                '&' if self.take("&&") => self.end(Joint::And),
                '&' if self.take("&>") => self.target(),
                '&' => {
                    self.at += 1;
                    self.end(Joint::Background);
                }
                '|' if self.take("||") => self.end(Joint::Or),
                '|' => {
                    let _ = self.take("|&") || self.take("|");
                    self.end(Joint::Pipe);
                }
                '(' => {
                    self.at += 1;
                    self.end(Joint::Then);
                    self.depth += 1;
                }
                ')' => {
                    self.at += 1;
                    self.end(Joint::Then);
                    self.depth = self.depth.saturating_sub(1);
                }
                '<' | '>' => {
                    let marks = self.text[self.at..].trim_start_matches(['<', '>', '&', '|', '-']);
                    self.at = self.text.len() - marks.len();
                    self.target();
                }
                _ => self.word(),
            }
        }
        self.end(Joint::Then);
    }

    /// Ends the command.
    fn end(&mut self, after: Joint) {
        let words = std::mem::take(&mut self.words);
        if words.is_empty() {
            // Behind a compound command the joint is that of what comes next.
            if after != Joint::Then {
                self.before = after;
            }
            return;
        }
        self.out.push(Command { words, before: self.before, after, depth: self.depth });
        self.before = after;
    }

    /// Reads over the target of a redirection.
    fn target(&mut self) {
        while self.peek().is_some_and(|c| c == ' ' || c == '\t') {
            self.at += 1;
        }
        if self.peek().is_some_and(|c| !c.is_whitespace() && !"&|;()<>".contains(c)) {
            self.read_word();
        }
    }

    fn word(&mut self) {
        let word = self.read_word();
        // A number right in front of a redirection belongs to it.
        if self.peek().is_some_and(|c| c == '<' || c == '>')
            && word.text.bytes().all(|b| b.is_ascii_digit())
            && word.end == self.at
        {
            return;
        }
        let quoted = self.text.get(word.start..word.end) != Some(word.text.as_str());
        if self.words.is_empty() && !quoted {
            match word.text.as_str() {
                "if" | "while" | "until" | "case" | "{" => {
                    self.depth += 1;
                    if word.text != "case" {
                        return;
                    }
                }
                "for" | "select" => self.depth += 1,
                "then" | "elif" | "else" | "do" | "!" => return,
                "fi" | "done" | "esac" | "}" => {
                    self.depth = self.depth.saturating_sub(1);
                    return;
                }
                _ => {}
            }
        }
        self.words.push(word);
    }

    fn read_word(&mut self) -> Word {
        let start = self.at;
        let mut text = String::new();
        let mut literal = true;
        while let Some(c) = self.peek() {
            match c {
                c if c.is_whitespace() || "&|;()<>".contains(c) => break,
                '\'' => {
                    let rest = &self.text[self.at + 1..];
                    let end = rest.find('\'').unwrap_or(rest.len());
                    text.push_str(&rest[..end]);
                    self.at = (self.at + end + 2).min(self.text.len());
                }
                '"' => {
                    self.at += 1;
                    literal &= self.quoted(&mut text);
                }
                '\\' => {
                    self.at += 1;
                    if let Some(next) = self.peek() {
                        self.at += next.len_utf8();
                        if next != '\n' {
                            text.push(next);
                        }
                    }
                }
                '$' | '`' => {
                    literal = false;
                    self.substitution(&mut text);
                }
                c => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        Word { text, start, end: self.at, literal }
    }

    /// Reads up to the closing quote; whether nothing in it is to be substituted.
    fn quoted(&mut self, text: &mut String) -> bool {
        let mut literal = true;
        while let Some(c) = self.peek() {
            match c {
                '"' => {
                    self.at += 1;
                    break;
                }
                '\\' => {
                    self.at += 1;
                    let Some(next) = self.peek() else { break };
                    self.at += next.len_utf8();
                    if !"$`\"\\\n".contains(next) {
                        text.push('\\');
                    }
                    if next != '\n' {
                        text.push(next);
                    }
                }
                '$' | '`' => {
                    literal = false;
                    self.substitution(text);
                }
                c => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        literal
    }

    /// Reads `$name`, `${...}`, `$(...)` or a text in backquotes as it stands.
    fn substitution(&mut self, text: &mut String) {
        let start = self.at;
        let opener = self.text[start..].chars().next();
        self.at += 1;
        match (opener, self.peek()) {
            (Some('`'), _) => {
                let rest = &self.text[self.at..];
                self.at += rest.find('`').map_or(rest.len(), |end| end + 1);
            }
            (_, Some('(')) => self.balanced('(', ')'),
            (_, Some('{')) => self.balanced('{', '}'),
            _ => {}
        }
        text.push_str(&self.text[start..self.at]);
    }

    /// Reads from an opening bracket to its closing one; brackets in quotes do not count.
    fn balanced(&mut self, open: char, close: char) {
        let mut depth = 0usize;
        let mut quote = None;
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                '\\' if quote != Some('\'') => {
                    self.at += self.peek().map_or(0, char::len_utf8);
                }
                c if quote == Some(c) => quote = None,
                '\'' | '"' if quote.is_none() => quote = Some(c),
                c if quote.is_none() && c == open => depth += 1,
                c if quote.is_none() && c == close => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let words = |c: &Command| c.words.iter().map(|w| w.text.clone()).collect::<Vec<_>>().join("·");
        let mark = |c: &Command| match c.after {
            Joint::Then => ";",
            Joint::And => "&&",
            Joint::Or => "||",
            Joint::Pipe => "|",
            Joint::Background => "&",
        };
        commands(text).iter().map(|c| format!("{}{}{}", ">".repeat(c.depth), words(c), mark(c))).collect()
    }

    #[test]
    fn joints() {
        assert_eq!(
            shown("a b && c || d; e | f |& g & h\ni"),
            ["a·b&&", "c||", "d;", "e|", "f|", "g&", "h;", "i;"]
        );
        assert_eq!(shown(" ;; "), [""; 0]);
        let before: Vec<Joint> = commands("a && (b; c) || d").iter().map(|c| c.before).collect();
        assert_eq!(before, [Joint::Then, Joint::And, Joint::Then, Joint::Or]);
    }

    #[test]
    fn words_lose_their_quotes() {
        assert_eq!(shown("a 'b c' \"d \\\" e\"f\\ g"), ["a·b c·d \" ef g;"]);
        assert_eq!(shown("a \"b 'c' \\d\" ''"), ["a·b 'c' \\d·;"]);
        assert_eq!(shown("a 'not closed"), ["a·not closed;"]);
        assert_eq!(shown("a # b && c\nd#e"), ["a;", "d#e;"]);
        assert_eq!(shown("a \\\n b"), ["a·b;"]);
    }

    #[test]
    fn substitutions_stay() {
        assert_eq!(
            shown("a $(b | c \")\" (d)) ${e:-f g} `h && i` \"$(j k)\""),
            ["a·$(b | c \")\" (d))·${e:-f g}·`h && i`·$(j k);"]
        );
        let literal: Vec<bool> = commands("a '$b' $c \"$d\" *")[0].words.iter().map(|w| w.literal).collect();
        assert_eq!(literal, [true, true, false, false, true]);
    }

    #[test]
    fn redirections_are_left_out() {
        assert_eq!(shown("a > b 2>&1 c 2>/dev/null <d >>'e f' &>g h<<X"), ["a·c·h;"]);
        assert_eq!(shown("a 2 >b"), ["a·2;"], "a number with a blank is an argument");
    }

    #[test]
    fn compound_commands_are_deeper() {
        assert_eq!(shown("if a; then b && c; else d; fi; e"), [">a;", ">b&&", ">c;", ">d;", "e;"]);
        assert_eq!(shown("for x in a b; do c $x; done && d"), [">for·x·in·a·b;", ">c·$x;", "d;"]);
        assert_eq!(shown("(a && b) | c"), [">a&&", ">b;", "c;"]);
        assert_eq!(shown("{ a; b; } && ! c"), [">a;", ">b;", "c;"]);
        assert_eq!(shown("echo if then"), ["echo·if·then;"]);
        assert_eq!(shown("case $x in a) b;; *) c;; esac; d").last().map(String::as_str), Some("d;"));
    }

    #[test]
    fn programs() {
        let all = commands("A=b /usr/bin/sudo -E env C=d /bin/apt-get -y install x");
        assert_eq!((all[0].program(), all[0].args().len()), ("apt-get", 3));
        assert!(all[0].has("-y") && all[0].operands().map(|w| w.text.as_str()).eq(["install", "x"]));
        assert_eq!(commands("A=b")[0].program(), "");
    }

    #[test]
    fn places() {
        let text = "x && apk 'a d'd é";
        let words = &commands(text)[1].words;
        let places: Vec<&str> = words.iter().map(|w| &text[w.start..w.end]).collect();
        assert_eq!(places, ["apk", "'a d'd", "é"]);
    }
}
