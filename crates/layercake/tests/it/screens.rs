//! The analyser's screen in a real terminal (tmux), and its page in a real browser (Chromium, headless).

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Value, json};

use crate::lab::{Build, skip, wait_until};

/// The image `t`: a directory that a later layer replaces in part, and a file with a name that would clear the screen.
fn image() -> Option<Build> {
    let mut b = Build::new()?;
    b.file("app/one.txt", "the first file\n").file("app/two.txt", &"two ".repeat(5000));
    b.file("new/two.txt", &"2 ".repeat(3000)).file("app/e\u{1b}[2Jvil", "");
    b.dockerfile("FROM scratch\nCOPY app /app\nCOPY new /app\n").run().ok();
    Some(b)
}

/// A terminal of its own; gone with the value.
struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    fn new(b: &Build, words: &[&str], width: u16, height: u16) -> Tmux {
        let tmux = Tmux { socket: b.path("tmux") };
        let command = b.command(words);
        let program = command.get_program().to_str().unwrap();
        // env(1) takes what goes before what comes.
        let mut line = vec!["env".to_owned()];
        let mut set = Vec::new();
        for (key, value) in command.get_envs() {
            let key = key.to_str().unwrap();
            match value {
                Some(v) => set.push(format!("{key}={}", v.to_str().unwrap())),
                None => line.extend(["-u".to_owned(), key.to_owned()]),
            }
        }
        line.append(&mut set);
        line.extend(["sh", "-c", "echo $$ > pid; exec \"$@\"", "sh", program].map(str::to_owned));
        line.extend(command.get_args().map(|a| a.to_str().unwrap().to_owned()));
        let quoted: Vec<String> = line.iter().map(|w| format!("'{}'", w.replace('\'', "'\\''"))).collect();
        // What the shell says afterwards shows that the terminal is itself again.
        let script =
            format!("stty -a > before; {}; echo code=$?; stty -a > after; exec cat", quoted.join(" "));
        let out = tmux
            .command()
            .args(["-f", "/dev/null", "new-session", "-d", "-s", "t"])
            .args(["-x", &width.to_string(), "-y", &height.to_string(), "-c", b.path("").to_str().unwrap()])
            .arg(script)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        tmux
    }

    fn command(&self) -> Command {
        let mut c = Command::new("tmux");
        c.arg("-S").arg(&self.socket).env("LC_ALL", "C.UTF-8").env_remove("TMUX").env_remove("NO_COLOR");
        c
    }

    fn screen(&self) -> String {
        let out = self.command().args(["capture-pane", "-p", "-t", "t"]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        assert!(self.command().args(["send-keys", "-t", "t"]).args(keys).status().unwrap().success());
    }

    /// Waits for a screen that has all of this.
    fn until(&self, wanted: &[&str]) -> String {
        wait_until(&format!("a screen with {wanted:?}"), || {
            let screen = self.screen();
            if wanted.iter().all(|w| screen.contains(w)) { Ok(screen) } else { Err(screen) }
        })
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}

fn there(program: &str) -> bool {
    let found = Command::new(program).arg(if program == "tmux" { "-V" } else { "--version" }).output();
    found.is_ok_and(|o| o.status.success())
}

#[test]
fn the_screen_in_a_terminal() {
    if !there("tmux") {
        return skip("tmux is not installed");
    }
    let Some(b) = image() else { return };
    let t = Tmux::new(&b, &["dive", "t"], 80, 24);
    t.until(&["Layers", "COPY app /app", "⊖ app", "^C Quit"]);
    t.keys(&["Tab", "C-Space"]);
    t.until(&["⊕ app"]);
    t.keys(&["C-Space"]);
    let screen = t.until(&["one.txt", "two.txt", "e\\x1b[2Jvil"]);
    assert!(screen.lines().count() <= 24 && screen.starts_with(" Layers"), "{screen}");
    t.keys(&["/", "o", "n", "e", "Enter", "v"]);
    t.until(&["1 the first file", "Esc Close"]);
    // A key right after Escape would be one with Alt.
    t.keys(&["Escape"]);
    t.until(&["^C Quit", "one.txt"]);
    t.keys(&["C-e"]);
    t.until(&["Write to: ./one.txt"]);
    t.keys(&["Enter"]);
    t.until(&["15B written to ./one.txt"]);
    assert_eq!(std::fs::read_to_string(b.path("one.txt")).unwrap(), "the first file\n");
    t.keys(&["Tab", "Down", "i"]);
    t.until(&["Layer 1: files and changes"]);
    t.keys(&["?"]);
    t.until(&["Everywhere", "history of the path"]);
    t.keys(&["q", "q"]);
    t.until(&["code=0"]);
    let stty = |name: &str| std::fs::read_to_string(b.path(name)).unwrap_or_default();
    wait_until("the terminal's settings", || {
        let (before, after) = (stty("before"), stty("after"));
        if !after.is_empty() && before == after { Ok(()) } else { Err(format!("{before}\n{after}")) }
    });
}

#[test]
fn a_signal_gives_the_terminal_back() {
    if !there("tmux") {
        return skip("tmux is not installed");
    }
    let Some(b) = image() else { return };
    let t = Tmux::new(&b, &["analyse", "t"], 100, 30);
    t.until(&["^C Quit", "Files"]);
    let pid: i32 = std::fs::read_to_string(b.path("pid")).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let screen = t.until(&["code=130", "interrupted"]);
    assert!(!screen.contains("Layers"), "the screen is what it was before: {screen}");
}

/// Reading keys from a terminal that was gone never ended.
#[test]
fn a_window_that_is_closed_ends_the_program() {
    if !there("tmux") {
        return skip("tmux is not installed");
    }
    let Some(b) = image() else { return };
    let t = Tmux::new(&b, &["dive", "t"], 80, 24);
    t.until(&["^C Quit", "Files"]);
    let pid = std::fs::read_to_string(b.path("pid")).unwrap().trim().to_owned();
    let runs = || {
        // A zombie has no command line.
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| words.windows(4).any(|w| w == b"dive"))
    };
    assert!(runs());
    drop(t);
    wait_until("the program has ended", || if runs() { Err("it runs".to_owned()) } else { Ok(()) });
}

/// Archives were read without a word, however long it took.
#[test]
fn an_archive_that_takes_long_shows_how_far_it_is() {
    if !there("tmux") {
        return skip("tmux is not installed");
    }
    let Some(mut b) = Build::new() else { return };
    // Does not compress.
    let mut n = 1u64;
    let mut noise = String::new();
    while noise.len() < 3_000_000 {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.push_str(&format!("{n:x}"));
    }
    b.file("big", &noise);
    b.dockerfile("FROM scratch\nCOPY big /big\n").run().ok();
    b.layercake(&["save", "t", "-o", b.path("t.tar").to_str().unwrap()]).ok();
    let bytes = std::fs::read(b.path("t.tar")).unwrap();
    let pipe = b.path("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let t = Tmux::new(&b, &["analyse", "pipe", "--no-tui"], 80, 24);
    let mut to = File::options().write(true).open(&pipe).unwrap();
    to.write_all(&bytes[..bytes.len() - 200_000]).unwrap();
    let screen = t.until(&["reading pipe", "layer 0 [==", "MB/"]);
    assert!(!screen.contains("code="), "{screen}");
    to.write_all(&bytes[bytes.len() - 200_000..]).unwrap();
    drop(to);
    let screen = t.until(&["code=0", "COPY big /big"]);
    assert!(!screen.contains("reading"), "the bars are gone: {screen}");
}

#[test]
fn without_a_terminal_there_is_a_report() {
    let Some(b) = image() else { return };
    let out = b.layercake(&["analyse", "t"]);
    assert!(out.ok().contains("COPY app /app") && !out.stdout.contains('\u{1b}'), "{out}");
    let page = b.path("page.html");
    b.layercake(&["analyse", "t", "--html", page.to_str().unwrap()]).ok();
    assert!(std::fs::read_to_string(page).unwrap().starts_with("<!doctype html>"));
}

/// Chromium with the page of `t`, driven through its debugging pipe: messages as JSON, each ended by a zero byte.
struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    id: u64,
    session: String,
}

impl Browser {
    fn new(b: &Build, page: &str) -> Browser {
        let (to, from) = (b.path("to"), b.path("from"));
        for p in [&to, &from] {
            rustix::fs::mknodat(CWD, p, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }
        let script = format!(
            "exec chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe --window-size=1280,800 \
             --user-data-dir='{}' about:blank 3<'{}' 4>'{}'",
            b.path("profile").display(),
            to.display(),
            from.display()
        );
        let child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Each opening waits for the other side.
        let to = File::options().write(true).open(to).unwrap();
        let from = BufReader::new(File::open(from).unwrap());
        let mut browser = Browser { child, to, from, id: 0, session: String::new() };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": false}),
        );
        browser.call("Network.enable", json!({}));
        browser.open(page);
        browser
    }

    /// Opens an address and waits until the page has drawn itself.
    fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({"url": address}));
        wait_until("the page to draw itself", || {
            match self.eval("document.documentElement?.dataset.ready || ''").as_str() {
                Some("") | None => Err("not yet".to_owned()),
                Some(_) => Ok(()),
            }
        });
    }

    /// Calls a method and gives its result. What was requested meanwhile is checked: nothing but the page itself.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let mut message = json!({"id": self.id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            std::io::BufRead::read_until(&mut self.from, 0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "the browser is gone");
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["method"] == "Network.requestWillBeSent" {
                let url = answer["params"]["request"]["url"].as_str().unwrap_or_default();
                assert!(url.starts_with("file:") && url.contains("page.html"), "the page asked for {url}");
            }
            if answer["id"] == self.id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    fn eval(&mut self, script: &str) -> Value {
        let r = self.call("Runtime.evaluate", json!({"expression": script, "returnByValue": true}));
        assert!(r.get("exceptionDetails").is_none(), "{script}: {r}");
        r["result"]["value"].clone()
    }

    fn text(&mut self, id: &str) -> String {
        self.eval(&format!("document.getElementById('{id}').innerText")).as_str().unwrap().to_owned()
    }

    fn key(&mut self, key: &str, text: &str) {
        let down = json!({"type": "keyDown", "key": key, "text": text});
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key}));
    }

    fn click(&mut self, script: &str) {
        let at = self.eval(&format!("(() => {{ const r = ({script}).getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"));
        for kind in ["mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                json!({"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1}),
            );
        }
    }

    /// Share of the map's pixels that have other colours than the one in the middle of its frame; a map that was not drawn has none.
    fn colours(&mut self) -> u64 {
        self.eval(
            "(() => { const c = document.getElementById('canvas'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
               const s = new Set(); for (let i = 0; i < d.length; i += 4) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); return s.size; })()",
        )
        .as_u64()
        .unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.to.write_all(b"{\"id\":999999,\"method\":\"Browser.close\"}\0");
        let mut rest = Vec::new();
        let _ = self.from.read_to_end(&mut rest);
        let _ = self.child.wait();
    }
}

#[test]
fn the_page_in_a_browser() {
    if !there("chromium") {
        return skip("chromium is not installed");
    }
    let Some(b) = image() else { return };
    let page = b.path("page.html");
    b.layercake(&["analyse", "t", "--html", page.to_str().unwrap()]).ok();
    let address = format!("file://{}", page.display());
    let mut w = Browser::new(&b, &address);
    // What it says at first.
    assert_eq!(w.text("title"), "t");
    assert!(w.text("facts").contains("20.0kB") && w.text("facts").contains("Dead"), "{}", w.text("facts"));
    assert!(w.text("findings").contains("overwritten later"), "{}", w.text("findings"));
    assert!(w.colours() > 3, "the map is drawn");
    let wide = w.eval("document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight");
    assert_eq!(wide, true, "nothing sticks out");
    // By layer, into a layer, and out again, with the mouse and the keys.
    w.click("document.getElementById('by-layer')");
    assert_eq!(w.text("crumbs"), "layers");
    w.click("document.querySelectorAll('#timeline button')[1]");
    assert!(w.text("crumbs").ends_with("COPY new /app"), "{}", w.text("crumbs"));
    assert_eq!(w.eval("location.hash"), "#by=layer&layer=1");
    w.eval("document.getElementById('canvas').focus()");
    w.key("ArrowRight", "");
    w.key("Enter", "\r");
    assert!(w.text("crumbs").ends_with("app"), "{}", w.text("crumbs"));
    w.key("Backspace", "");
    w.key("Backspace", "");
    assert_eq!(w.text("crumbs"), "layers");
    w.key("v", "v");
    assert_eq!(w.text("crumbs"), "/");
    // A click on the map goes into what is there.
    w.click("document.getElementById('canvas')");
    assert!(w.text("crumbs").ends_with("app"), "{}", w.text("crumbs"));
    assert!(w.text("status").contains("/app · "), "{}", w.text("status"));
    // Search; a name that is no text is shown as what it is.
    w.key("/", "/");
    w.call("Input.insertText", json!({"text": "VIL"}));
    assert!(w.text("files").contains("1 path found"), "{}", w.text("files"));
    assert!(
        w.text("files").contains("/app/e\\\\x1b[2Jvil") || w.text("files").contains("/app/e\\x1b[2Jvil"),
        "{}",
        w.text("files")
    );
    // A finding leads to its file.
    w.click("document.getElementById('tab-findings')");
    w.click("document.querySelector('#findings button')");
    assert!(w.text("status").contains("two.txt"), "{}", w.text("status"));
    // The address brings back what was seen, and dark is dark.
    w.call(
        "Emulation.setEmulatedMedia",
        json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]}),
    );
    let dark = w.eval("getComputedStyle(document.body).backgroundColor");
    assert_eq!(dark, "rgb(20, 24, 30)");
    w.call("Page.navigate", json!({"url": "about:blank"}));
    w.open(&format!("{address}#by=layer&layer=0&path=%2Fapp&q=one"));
    assert!(w.text("crumbs").ends_with("app") && w.text("files").contains("one.txt"), "{}", w.text("crumbs"));
    assert!(w.colours() > 2);
}
