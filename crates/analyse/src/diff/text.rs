//! Differences of two texts, line by line, in the unified form that `diff -u` writes and `patch` and `git apply` read.
//!
//! Myers' greedy algorithm, with a bound on the number of differences: beyond it what lies between the common head and the common tail is
//! given as one replacement, which is right, if not short. A last line without a line feed is marked as `diff` does it.

/// More differing lines than this are not aligned.
const MAX_DIFFERENCES: usize = 1000;

/// Lines of context around a difference.
const CONTEXT: usize = 3;

/// One line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'t> {
    Same(&'t str),
    Gone(&'t str),
    New(&'t str),
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// The difference of two texts with their names in front; empty if they are the same.
///
/// `name_a` and `name_b` stand behind `---` and `+++`, as they are; `/dev/null` means that there was, or is, no file.
pub fn unified(a: &str, b: &str, name_a: &str, name_b: &str) -> String {
    if a == b {
        return String::new();
    }
    let script = script(&lines(a), &lines(b));
    let mut out = format!("--- {name_a}\n+++ {name_b}\n");
    let is_change = |l: &Line<'_>| !matches!(l, Line::Same(_));
    let mut at = 0;
    // Lines of either text before `at`.
    let (mut line_a, mut line_b) = (0, 0);
    while let Some(first) = script[at..].iter().position(is_change).map(|n| at + n) {
        let start = first.saturating_sub(CONTEXT).max(at);
        line_a += start - at;
        line_b += start - at;
        let mut last = first;
        while let Some(next) = script[last + 1..].iter().position(is_change).map(|n| last + 1 + n) {
            if next - last > 2 * CONTEXT {
                break;
            }
            last = next;
        }
        let end = (last + 1 + CONTEXT).min(script.len());
        let hunk = &script[start..end];
        let count_a = hunk.iter().filter(|l| !matches!(l, Line::New(_))).count();
        let count_b = hunk.iter().filter(|l| !matches!(l, Line::Gone(_))).count();
        // A range without lines is named by the line before it.
        let from = |before: usize, count: usize| if count == 0 { before } else { before + 1 };
        let (from_a, from_b) = (from(line_a, count_a), from(line_b, count_b));
        out.push_str(&format!("@@ -{from_a},{count_a} +{from_b},{count_b} @@\n"));
        for l in hunk {
            let (sign, text) = match l {
                Line::Same(t) => (' ', t),
                Line::Gone(t) => ('-', t),
                Line::New(t) => ('+', t),
            };
            out.push(sign);
            out.push_str(text);
            if !text.ends_with('\n') {
                out.push_str("\n\\ No newline at end of file\n");
            }
        }
        line_a += count_a;
        line_b += count_b;
        at = end;
    }
    out
}

fn script<'t>(a: &[&'t str], b: &[&'t str]) -> Vec<Line<'t>> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (mid_a, mid_b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut out: Vec<Line<'t>> = a[..head].iter().map(|l| Line::Same(l)).collect();
    match myers(mid_a, mid_b) {
        Some(mid) => out.extend(mid),
        None => {
            out.extend(mid_a.iter().map(|l| Line::Gone(l)));
            out.extend(mid_b.iter().map(|l| Line::New(l)));
        }
    }
    out.extend(a[a.len() - tail..].iter().map(|l| Line::Same(l)));
    out
}

/// Myers, "An O(ND) difference algorithm and its variations" (1986), with the frontier of each round kept for the way back.
fn myers<'t>(a: &[&'t str], b: &[&'t str]) -> Option<Vec<Line<'t>>> {
    let most = (a.len() + b.len()).min(MAX_DIFFERENCES);
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    // The furthest place in `a` on each diagonal k of -d..=d, at k + d.
    let mut front: Vec<usize> = Vec::new();
    let goal = 'search: {
        for d in 0..=most {
            let mut next = vec![0; 2 * d + 1];
            for i in (0..=2 * d).step_by(2) {
                let k = i as isize - d as isize;
                let old = |k: isize| front.get((k + d as isize - 1) as usize).copied();
                let mut x = match (d, i) {
                    (0, _) => 0,
                    (_, 0) => old(k + 1).unwrap_or(0),
                    _ if i == 2 * d => old(k - 1).map_or(0, |x| x + 1),
                    _ => old(k + 1).unwrap_or(0).max(old(k - 1).map_or(0, |x| x + 1)),
                };
                let mut y = (x as isize - k) as usize;
                while x < a.len() && y < b.len() && a[x] == b[y] {
                    x += 1;
                    y += 1;
                }
                next[i] = x;
                if x >= a.len() && y >= b.len() {
                    rounds.push(next);
                    break 'search Some(d);
                }
            }
            rounds.push(next.clone());
            front = next;
        }
        None
    }?;
    let mut out = Vec::new();
    let (mut x, mut y) = (a.len(), b.len());
    for d in (1..=goal).rev() {
        let k = x as isize - y as isize;
        let old = &rounds[d - 1];
        let at = |k: isize| old.get(usize::try_from(k + d as isize - 1).ok()?).copied();
        let down = match (at(k - 1), at(k + 1)) {
            (Some(left), Some(up)) => left < up,
            (left, _) => left.is_none(),
        };
        let before = if down { at(k + 1)? } else { at(k - 1)? };
        let before_y = (before as isize - if down { k + 1 } else { k - 1 }) as usize;
        let start = if down { before } else { before + 1 };
        while x > start {
            x -= 1;
            out.push(Line::Same(a[x]));
        }
        out.push(if down { Line::New(b[before_y]) } else { Line::Gone(a[before]) });
        (x, y) = (before, before_y);
    }
    while x > 0 {
        x -= 1;
        out.push(Line::Same(a[x]));
    }
    out.reverse();
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn as_diff_writes_it() {
        let a = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let b = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10";
        assert_eq!(
            unified(a, b, "a/f", "b/f"),
            "--- a/f\n+++ b/f\n@@ -2,8 +2,9 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n 9\n+10\n\\ No newline at end of file\n"
        );
        assert_eq!(unified("x", "x", "a", "b"), "");
        assert_eq!(unified("", "x\n", "/dev/null", "b/f"), "--- /dev/null\n+++ b/f\n@@ -0,0 +1,1 @@\n+x\n");
        assert_eq!(unified("x\n", "", "a/f", "/dev/null"), "--- a/f\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-x\n");
    }

    /// Applies a script by its own account.
    fn replay(script: &[Line<'_>]) -> (String, String) {
        let (mut a, mut b) = (String::new(), String::new());
        for l in script {
            match l {
                Line::Same(t) => {
                    a.push_str(t);
                    b.push_str(t);
                }
                Line::Gone(t) => a.push_str(t),
                Line::New(t) => b.push_str(t),
            }
        }
        (a, b)
    }

    /// Longest common subsequence, by the table.
    fn longest(a: &[&str], b: &[&str]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut corner = 0;
            for (j, y) in b.iter().enumerate() {
                let here = if x == y { corner + 1 } else { row[j].max(row[j + 1]) };
                corner = std::mem::replace(&mut row[j + 1], here);
            }
        }
        row[b.len()]
    }

    #[test]
    fn scripts_are_right_and_shortest() {
        let mut seed = 7u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for _ in 0..400 {
            let mut text = |len: u64| {
                (0..random(len)).map(|_| ["a\n", "b\n", "c\n"][random(3) as usize]).collect::<String>()
            };
            let (a, b) = (text(20), text(20));
            let s = script(&lines(&a), &lines(&b));
            assert_eq!(replay(&s), (a.clone(), b.clone()));
            let same = s.iter().filter(|l| matches!(l, Line::Same(_))).count();
            assert_eq!(same, longest(&lines(&a), &lines(&b)), "{a:?} {b:?}");
        }
    }

    #[test]
    fn texts_without_anything_in_common_are_replaced_whole() {
        let a: String = (0..3000).map(|n| format!("a{n}\n")).collect();
        let b: String = (0..3000).map(|n| format!("b{n}\n")).collect();
        assert_eq!(replay(&script(&lines(&a), &lines(&b))), (a, b));
    }

    #[test]
    fn patch_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let a: String = (0..200).map(|n| format!("line {}\n", n % 17)).collect();
        let b = a.replace("line 3\n", "three\nand more\n").replace("line 9\n", "") + "end";
        std::fs::write(dir.path().join("f"), &a).unwrap();
        let mut patch =
            match Command::new("patch").arg("-p1").current_dir(dir.path()).stdin(Stdio::piped()).spawn() {
                Ok(p) => p,
                Err(e) => return assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{e}"),
            };
        patch.stdin.take().unwrap().write_all(unified(&a, &b, "a/f", "b/f").as_bytes()).unwrap();
        assert!(patch.wait().unwrap().success());
        assert_eq!(std::fs::read_to_string(dir.path().join("f")).unwrap(), b);
    }
}
