//! `build --list-context`.

use build::listing::{Amount, ContextList};

use crate::table::{self, Format};
use crate::{human, output};

fn files(a: Amount) -> String {
    let noun = if a.files == 1 { "file" } else { "files" };
    format!("{} {noun}, {}", a.files, human::bytes(a.bytes))
}

/// Prints a list.
pub(crate) fn print(list: &ContextList, format: Format) {
    if format == Format::Json {
        table::json(list);
        return;
    }
    let takers: Vec<Vec<String>> = list
        .instructions
        .iter()
        .map(|t| {
            let missing = if t.missing.is_empty() {
                String::new()
            } else {
                format!(" (not there: {})", t.missing.join(", "))
            };
            let line = if t.line == 0 { "-".to_owned() } else { t.line.to_string() };
            let size = human::bytes(t.takes.bytes);
            vec![line, t.takes.files.to_string(), size, format!("{}{missing}", t.text)]
        })
        .collect();
    let rows: Vec<Vec<String>> = list
        .files
        .iter()
        .map(|f| {
            let lines: Vec<String> = f.taken_by.iter().map(u32::to_string).collect();
            let size = if f.kind == "directory" { String::new() } else { human::bytes(f.size) };
            let path = if f.kind == "directory" { format!("{}/", f.path) } else { f.path.clone() };
            vec![if lines.is_empty() { "-".to_owned() } else { lines.join(",") }, size, path]
        })
        .collect();
    output::line(&table::columns(&["LINES", "SIZE", "PATH"], &rows));
    output::line("");
    output::line(&table::columns(&["LINE", "FILES", "SIZE", "INSTRUCTION"], &takers));
    let all = list.files.iter().filter(|f| f.kind != "directory");
    let all = all.fold(Amount::default(), |a, f| Amount { files: a.files + 1, bytes: a.bytes + f.size });
    output::line("");
    output::line(&format!(
        "{}: {}",
        if list.context.is_empty() { "no context" } else { &list.context },
        files(all)
    ));
    output::line(&format!("taken by no instruction: {}", files(list.not_taken)));
    output::line(&format!("left out by the ignore file: {}", files(list.ignored)));
    for base in &list.unknown_bases {
        output::note(&format!("note: {base} is not in the store; triggers that it may have are not counted"));
    }
}
