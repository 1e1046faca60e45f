//! A difference between two texts, line by line, for people: bounded in time and length.
//!
//! Common lines at both ends are set aside; what is left between them is compared by the longest common subsequence if the product
//! of the numbers of lines is at most [`CELLS`], else all of it counts as replaced.

/// Largest table of the comparison.
const CELLS: usize = 4 << 20;

/// Equal lines that are shown around what differs.
const AROUND: usize = 2;

/// Characters of a line that are shown.
const WIDTH: usize = 200;

/// A text that holds a byte 0, or is no UTF-8, is none.
pub fn is_text(bytes: &[u8]) -> bool {
    !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok()
}

/// Lines that begin with ` `, `-` or `+`; parts that are far from each other are separated by `@@ LINE @@` (the number in the new text).
/// At most `limit` lines; if there were more, the last says how many.
pub fn diff(old: &str, new: &str, limit: usize) -> Vec<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (a_mid, b_mid) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut lines: Vec<(char, &str, usize)> =
        a[..head].iter().enumerate().map(|(n, l)| (' ', *l, n + 1)).collect();
    middle(a_mid, b_mid, head, &mut lines);
    let rest = &b[b.len() - tail..];
    lines.extend(rest.iter().enumerate().map(|(n, l)| (' ', *l, b.len() - tail + n + 1)));
    show(&lines, limit)
}

fn middle<'t>(a: &[&'t str], b: &[&'t str], before: usize, out: &mut Vec<(char, &'t str, usize)>) {
    let columns = b.len() + 1;
    if (a.len() + 1).saturating_mul(columns) > CELLS {
        out.extend(a.iter().map(|l| ('-', *l, before + 1)));
        out.extend(b.iter().enumerate().map(|(n, l)| ('+', *l, before + n + 1)));
        return;
    }
    // Length of the longest common subsequence of what is left of both.
    let mut table = vec![0u32; (a.len() + 1) * columns];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            table[i * columns + j] = if a[i] == b[j] {
                table[(i + 1) * columns + j + 1] + 1
            } else {
                table[(i + 1) * columns + j].max(table[i * columns + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let number = before + j + 1;
        if i < a.len() && j < b.len() && a[i] == b[j] {
            out.push((' ', b[j], number));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || table[(i + 1) * columns + j] >= table[i * columns + j + 1])
        {
            out.push(('-', a[i], number));
            i += 1;
        } else {
            out.push(('+', b[j], number));
            j += 1;
        }
    }
}

fn show(lines: &[(char, &str, usize)], limit: usize) -> Vec<String> {
    let changed: Vec<usize> = lines.iter().enumerate().filter(|(_, l)| l.0 != ' ').map(|(n, _)| n).collect();
    let mut out = Vec::new();
    let mut next = 0;
    for &at in &changed {
        let from = at.saturating_sub(AROUND).max(next);
        if from > next || out.is_empty() {
            out.push(format!("@@ {} @@", lines[from].2));
        }
        // Up to the next change only: what follows a part is shown with it.
        let following = lines[at + 1..].iter().take(AROUND).take_while(|l| l.0 == ' ').count();
        for l in &lines[from..=at + following] {
            let text: String =
                l.1.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).take(WIDTH).collect();
            out.push(format!("{}{text}", l.0));
        }
        next = at + following + 1;
    }
    if out.len() > limit {
        let more = out.len() - limit;
        out.truncate(limit);
        out.push(format!("... and {more} more lines"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_with_a_little_around_it() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\n";
        let new = "a\nb\nc\nD\ne\nf\ng\nh\ni\nj\n";
        let want = ["@@ 2 @@", " b", " c", "-d", "+D", " e", " f", "@@ 8 @@", " h", " i", "+j"];
        assert_eq!(diff(old, new, 99), want);
        assert_eq!(diff(old, old, 99), Vec::<String>::new());
        assert_eq!(diff("", "x", 9), ["@@ 1 @@", "+x"]);
        assert_eq!(diff("x\ny\n", "", 9), ["@@ 1 @@", "-x", "-y"]);
        assert_eq!(
            diff("1\n2\n3\n4\n", "5\n6\n", 3).last().map(String::as_str),
            Some("... and 4 more lines")
        );
    }

    #[test]
    fn applying_it_gives_the_new_text() {
        let mut seed = 7u32;
        let mut random = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % n
        };
        for _ in 0..200 {
            let text =
                |r: &mut dyn FnMut(u32) -> u32| (0..r(12)).map(|_| format!("{}\n", r(4))).collect::<String>();
            let (a, b) = (text(&mut random), text(&mut random));
            let shown = diff(&a, &b, usize::MAX);
            let count = |sign: char, text: &str| {
                let lines = shown.iter().filter(|l| l.starts_with(sign)).count();
                (lines, text.lines().count())
            };
            let ((gone, had), (come, has)) = (count('-', &a), count('+', &b));
            assert_eq!(had - gone, has - come, "{a:?} {b:?} {shown:?}");
        }
    }

    #[test]
    fn large_texts_take_no_table() {
        let a: String = (0..5000).map(|n| format!("a{n}\n")).collect();
        let b: String = (0..5000).map(|n| format!("b{n}\n")).collect();
        assert_eq!(diff(&a, &b, 10).len(), 11);
        assert!(is_text(b"abc\n") && !is_text(b"a\0b") && !is_text(&[0xff]));
    }
}
