//! The screen without a terminal: keys go in, and what is drawn is compared with the texts in `snapshots/`.
//!
//! `LAYERCAKE_SNAPSHOTS=write` writes the texts anew; look at the difference before you commit it.

use analyse::{Base, BaseSource, Image};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::style::Color;

use super::app::{self, Action, App, Pane, Preview};
use super::testkit::{dir, entry, file, gone, image, layer, symlink};
use super::ui;

const INSTRUCTIONS: [&str; 6] = [
    "ADD rootfs.tar /",
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "RUN apt-get update && apt-get install -y build-essential",
    "COPY . /app",
    "RUN chown -R 1000:1000 /app",
    "RUN rm -rf /var/lib/apt/lists/* /app/big.bin",
];

/// An image with something of everything: two layers of a base, packages, a `chown` of everything, a clean-up that comes too late.
fn sample() -> Image {
    let owned = |path: &str, content: &str, size: u64| {
        let mut e = file(path, content, size);
        (e.attrs.uid, e.attrs.gid) = (1000, 1000);
        e
    };
    let layers = [
        layer(vec![
            dir("bin"),
            file("bin/sh", "sh", 120_000),
            symlink("bin/bash", "sh"),
            dir("etc"),
            file("etc/passwd", "passwd", 900),
            dir("usr"),
            dir("usr/lib"),
            file("usr/lib/libc.so.6", "libc", 1_900_000),
        ]),
        layer(vec![dir("etc"), file("etc/passwd", "passwd 2", 950), file("etc/os-release", "os", 300)]),
        layer(vec![
            file("usr/bin/gcc", "gcc", 45_000_000),
            entry(b"usr/bin/gcc-14", oci::Kind::HardLink { target: b"usr/bin/gcc".to_vec() }),
            file("var/lib/apt/lists/main", "lists", 18_000_000),
        ]),
        layer(vec![
            dir("app"),
            file("app/big.bin", "big", 30_000_000),
            file("app/main.c", "main", 5_000),
            entry(
                b"app/bad\x1b[31m\xff\nname",
                oci::Kind::File { size: 70, digest: oci::Digest::of(b"bad") },
            ),
        ]),
        layer(vec![owned("app/big.bin", "big", 30_000_000), owned("app/main.c", "main", 5_000)]),
        layer(vec![gone("var/lib/apt/lists/main"), gone("app/big.bin")]),
    ];
    let image = image(&layers, &INSTRUCTIONS);
    let mut image = std::sync::Arc::into_inner(image).unwrap();
    image.set_base(Some(Base { name: Some("debian:13".into()), layers: 2, source: BaseSource::Given }));
    image
}

struct Screen {
    app: App,
    width: u16,
    height: u16,
}

impl Screen {
    fn new(width: u16, height: u16) -> Screen {
        let previews = INSTRUCTIONS.iter().map(|i| Preview { instruction: (*i).to_owned() }).collect();
        Screen { app: App::new("example/app:1", previews), width, height }
    }

    fn loaded(width: u16, height: u16) -> Screen {
        let mut s = Screen::new(width, height);
        s.app.loaded(app::prepare(sample().into()), 2);
        s.draw();
        s
    }

    fn draw(&mut self) -> ratatui::buffer::Buffer {
        let mut terminal = Terminal::new(TestBackend::new(self.width, self.height)).unwrap();
        terminal.draw(|f| ui::draw(f, &mut self.app)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn text(&mut self) -> String {
        let buffer = self.draw();
        let mut out = String::new();
        for y in 0..self.height {
            let mut line = String::new();
            let mut skip = 0;
            for x in 0..self.width {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                let symbol = buffer[(x, y)].symbol();
                skip = ratatui::text::Span::raw(symbol).width().saturating_sub(1);
                line.push_str(symbol);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// Keys: `^x` is ctrl+x, names are in angle brackets, anything else is typed.
    fn keys(&mut self, keys: &str) -> Option<Action> {
        let mut rest = keys;
        let mut last = None;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            let (code, mods) = match c {
                '^' => {
                    let c = rest.chars().next().unwrap();
                    rest = &rest[c.len_utf8()..];
                    (KeyCode::Char(c), KeyModifiers::CONTROL)
                }
                '<' => {
                    let (name, after) = rest.split_once('>').unwrap();
                    rest = after;
                    let code = match name {
                        "tab" => KeyCode::Tab,
                        "enter" => KeyCode::Enter,
                        "esc" => KeyCode::Esc,
                        "up" => KeyCode::Up,
                        "down" => KeyCode::Down,
                        "left" => KeyCode::Left,
                        "right" => KeyCode::Right,
                        "end" => KeyCode::End,
                        "pgdn" => KeyCode::PageDown,
                        other => panic!("{other}"),
                    };
                    (code, KeyModifiers::NONE)
                }
                c => (KeyCode::Char(c), KeyModifiers::NONE),
            };
            last = self.app.key(KeyEvent::new(code, mods));
            self.draw();
        }
        last
    }

    fn selected(&self) -> String {
        let l = self.app.ready().unwrap();
        super::text::name(&l.stack.path(l.view.selected().unwrap()))
    }

    fn names(&self) -> Vec<String> {
        let l = self.app.ready().unwrap();
        l.view.rows().iter().map(|r| super::text::name(&l.stack.path(r.node))).collect()
    }

    fn compare(&mut self, name: &str) {
        let text = self.text();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/tui/snapshots")
            .join(format!("{name}.txt"));
        #[allow(clippy::disallowed_methods)]
        if std::env::var("LAYERCAKE_SNAPSHOTS").is_ok_and(|v| v == "write") {
            std::fs::write(&path, &text).unwrap();
        }
        let want = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            text == want,
            "the screen {name} is\n{text}\nand should be\n{want}\n(LAYERCAKE_SNAPSHOTS=write takes it)"
        );
    }
}

#[test]
fn screens() {
    Screen::new(80, 24).compare("reading-80x24");
    Screen::loaded(80, 24).compare("start-80x24");
    let mut s = Screen::loaded(80, 24);
    s.keys("<down><down><down><tab>^ ");
    s.compare("chown-80x24");
    s.keys("i<down><down>");
    s.compare("history-80x24");
    let mut s = Screen::loaded(80, 24);
    s.keys("f<down>");
    s.compare("findings-80x24");
    let mut s = Screen::loaded(80, 24);
    s.keys("?");
    s.compare("help-80x24");
    let mut s = Screen::loaded(120, 32);
    s.keys("<end>^a<right><tab>^ ");
    s.compare("aggregated-120x32");
    let mut s = Screen::loaded(120, 32);
    s.keys("<down><down>/bad<enter>");
    s.compare("search-120x32");
    let mut s = Screen::loaded(160, 50);
    s.keys("<down><right><right><right><tab>^ i");
    s.compare("wide-160x50");
    let mut s = Screen::loaded(50, 15);
    s.keys("<tab>");
    s.compare("narrow-50x15");
}

#[test]
fn a_file_is_shown() {
    let mut s = Screen::loaded(80, 24);
    s.keys("<down><tab>^ /gcc$<enter>");
    let Some(Action::View { title, digest, size }) = s.keys("v") else { panic!("no file") };
    assert_eq!((title.as_str(), digest, size), ("/usr/bin/gcc", oci::Digest::of(b"gcc"), 45_000_000));
    s.app.show_file(title, b"\x7fELF\0\0\0\0 and so on, in bytes".to_vec(), size);
    s.compare("file-80x24");
    s.keys("<esc>");
    s.keys("/gcc-14<enter>");
    assert_eq!(s.selected(), "/usr/bin/gcc-14");
    assert!(
        matches!(s.keys("v"), Some(Action::View { digest: d, .. }) if d == digest),
        "a hard link is the file that it leads to"
    );
    s.keys("<esc>^e");
    let Some(Action::Extract { to, mode, .. }) = s.keys("^uout<enter>") else { panic!("nothing to write") };
    assert_eq!((to.as_str(), mode), ("out", 0o644));
}

#[test]
fn the_filter_and_hidden_changes_leave_what_was_asked_for() {
    let mut s = Screen::loaded(100, 30);
    // All of the first layer above the base: what the base has is unmodified.
    s.keys("<down><tab>^ ");
    assert!(s.names().contains(&"/bin/sh".to_owned()) && s.names().contains(&"/usr/bin/gcc".to_owned()));
    s.keys("^u");
    assert!(!s.names().contains(&"/bin/sh".to_owned()) && s.names().contains(&"/usr/bin/gcc".to_owned()));
    s.keys("^u^f\\.so|gcc$<enter>");
    assert_eq!(
        s.names(),
        ["/usr", "/usr/bin", "/usr/bin/gcc", "/usr/lib", "/usr/lib/libc.so.6"],
        "the largest first"
    );
    s.keys("^o");
    assert_eq!(s.names()[1..3], ["/usr/bin", "/usr/bin/gcc"]);
    s.keys("<esc>");
    assert!(s.names().len() > 5);
    s.keys("^f(<enter>");
    assert!(s.text().contains("the pattern has a ( without its )"), "{}", s.text());
}

#[test]
fn enter_on_a_finding_goes_to_layer_and_path() {
    let mut s = Screen::loaded(100, 30);
    s.keys("f");
    let first = s.app.ready().unwrap().findings[0].clone();
    s.keys("<enter>");
    assert_eq!(s.app.focus, Pane::Tree);
    assert_eq!(s.app.layers.chosen(), first.layer);
    assert_eq!(s.app.ready().unwrap().view.selected(), first.node);
    // Even if it is filtered away.
    s.keys("^fnothing-is-called-so<enter>f<enter>");
    assert_eq!(s.app.ready().unwrap().view.selected(), first.node);
}

#[test]
fn every_finding_is_there_in_its_layer() {
    let mut s = Screen::loaded(100, 30);
    for n in 0..s.app.ready().unwrap().findings.len() {
        s.app.finding_at = n;
        s.keys("f<enter>");
        let f = s.app.ready().unwrap().findings[n].clone();
        assert_eq!(s.app.ready().unwrap().view.selected(), f.node, "{f:?}");
        assert_eq!(s.app.message, None);
    }
}

#[test]
fn dead_bytes_stand_in_the_layer_that_ships_them() {
    let mut s = Screen::loaded(120, 30);
    let text = s.text();
    let line = |word: &str| text.lines().find(|l| l.contains(word)).unwrap().to_owned();
    assert!(line("apt-get update").contains("18.0MB"), "{text}");
    assert!(line("chown").contains("30.0MB"), "{text}");
}

#[test]
fn the_mouse_chooses_opens_and_moves() {
    let mut s = Screen::loaded(80, 24);
    let event = |kind, column, row| MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
    let click = MouseEventKind::Down(MouseButton::Left);
    let layers = s.app.areas.layers;
    s.app.mouse(event(click, layers.x + 5, layers.y + 2));
    assert_eq!((s.app.focus, s.app.layers.chosen()), (Pane::Layers, 3));
    s.draw();
    let tab = s.app.areas.tabs[2];
    s.app.mouse(event(click, tab.x, tab.y));
    assert_eq!(s.app.focus, Pane::Findings);
    s.draw();
    let tree = s.app.areas.tree;
    s.app.mouse(event(click, tree.x + 3, tree.y + 1));
    assert_eq!(s.app.focus, Pane::Tree);
    s.draw();
    let (before, tree) = (s.names().len(), s.app.areas.tree);
    s.app.mouse(event(click, tree.x + 3, tree.y + 1));
    assert!(s.names().len() > before, "a second click opens");
    s.app.mouse(event(MouseEventKind::ScrollDown, tree.x, tree.y));
    assert_eq!(s.app.ready().unwrap().view.cursor(), 4);
    s.app.mouse(event(MouseEventKind::ScrollUp, tree.x, tree.y));
    assert_eq!(s.app.ready().unwrap().view.cursor(), 1);
}

#[test]
fn colours_say_what_letters_say_and_can_be_off() {
    let mut s = Screen::loaded(80, 24);
    s.keys("<down><tab>");
    let find = |buffer: &ratatui::buffer::Buffer, text: &str| {
        let width = buffer.area.width;
        (0..buffer.area.height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .find(|&(x, y)| {
                text.chars().enumerate().all(|(n, c)| {
                    let x = x + n as u16;
                    x < width && buffer[(x, y)].symbol() == c.to_string()
                })
            })
            .map(|at| buffer[at].fg)
    };
    assert_eq!(find(&s.draw(), "var"), Some(Color::Green));
    s.app.colour = false;
    let plain = s.draw();
    assert!(plain.content.iter().all(|c| c.fg == Color::Reset && c.bg == Color::Reset));
}

#[test]
fn no_size_and_no_key_is_too_much() {
    let keys = [
        "<tab>", "<down>", "<right>", "<left>", "^ ", " ", "^p", "i", "?", "<esc>", "f", "<enter>", "^a",
        "^l", "/a", "<enter>", "n", "N", "^f.", "<enter>", "<pgdn>", "<end>", "b", "^b", "^o", "^u", "^r",
        "v", "^e", "<esc>",
    ];
    for (width, height) in
        [(1, 1), (9, 2), (10, 3), (20, 5), (40, 8), (59, 12), (60, 6), (80, 24), (111, 9), (300, 100)]
    {
        Screen::new(width, height).keys("<tab>^ i?");
        let mut s = Screen::loaded(width, height);
        for k in keys {
            s.keys(k);
            s.app.mouse(MouseEvent {
                kind: MouseEventKind::Down(MouseButton::Left),
                column: width / 3,
                row: height / 2,
                modifiers: KeyModifiers::NONE,
            });
        }
        s.draw();
    }
    let mut empty = Screen::new(80, 24);
    empty.app.loaded(app::prepare(image(&[], &[])), 0);
    assert!(empty.text().contains("no dead bytes"));
    keys.iter().for_each(|k| drop(empty.keys(k)));
}

#[test]
fn a_hundred_thousand_files_are_rows_only_where_they_are_seen() {
    let files =
        (0..100_000).map(|n| file(&format!("srv/d{:03}/f{n:06}", n / 500), &n.to_string(), n + 1)).collect();
    let image = image(&[layer(files)], &["ADD files /"]);
    let mut s = Screen::new(100, 30);
    s.app.loaded(app::prepare(image), 0);
    s.draw();
    assert!(s.names().len() <= 201, "closed directories have no rows");
    s.keys("<tab>^ ^ ");
    assert_eq!(s.names().len(), 100_201);
    s.keys("<end>");
    assert!(s.text().contains("f000000"), "the smallest file comes last");
    s.keys("/f099999<enter>");
    assert_eq!(s.selected(), "/srv/d199/f099999");
    assert!(s.text().contains("match 1 of 1"));
}
