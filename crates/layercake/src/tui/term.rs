//! The terminal: made ready, given back whatever happens, and the loop between keys and drawing.
//!
//! Raw mode and the alternate screen are taken at the start and given back at the end, when a signal ends the program (TERM, HUP, INT
//! from outside), while it is suspended (ctrl+z, TSTP), and before a panic prints its message.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use oci::Digest;
use oci::content::Content;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, DisableMouseCapture, EnableMouseCapture, Event, KeyEventKind};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::app::{Action, App, Loaded};
use super::ui;
use super::viewer::SHOWN;
use crate::error::CommandError;

/// How long a frame waits for an image that is about to come.
const SOON: Duration = Duration::from_millis(20);
/// How often progress and signals are looked for.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(200);

/// How long the program may take to end by itself when its terminal is gone, and its exit code if it does not: 128 and SIGHUP.
const GRACE: Duration = Duration::from_secs(1);
const HUNG_UP: i32 = 129;

/// What the reading thread has to say.
#[derive(Debug)]
pub(crate) enum News {
    /// Done; with the number of layers of the base.
    Loaded(Box<Loaded>, usize),
    /// It cannot be read.
    Failed(Box<CommandError>),
}

/// How the screen was left.
#[derive(Debug)]
pub(crate) enum Left {
    /// By the user.
    Quit,
    /// By a signal.
    Signal,
    /// The image cannot be read.
    Failed(Box<CommandError>),
}

/// The terminal, while it is ours.
struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, cursor::Hide)
}

fn give_back() {
    // Whatever fails here: there is nothing better to do than the rest.
    let _ = execute!(io::stdout(), DisableMouseCapture, LeaveAlternateScreen, cursor::Show);
    let _ = disable_raw_mode();
}

impl Screen {
    fn new() -> io::Result<Screen> {
        take().inspect_err(|_| give_back())?;
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        Ok(Screen {
            terminal: Terminal::new(CrosstermBackend::new(io::stdout())).inspect_err(|_| give_back())?,
        })
    }

    /// Gives the terminal back, stops, and takes it again when the program is continued.
    fn suspend(&mut self) -> io::Result<()> {
        give_back();
        signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP)?;
        take()?;
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
        // The hook stays: giving back twice does no harm.
    }
}

/// Signals that were sent to us.
struct Signals {
    end: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    resumed: Arc<AtomicBool>,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
        let signals = Signals { end: Arc::default(), stop: Arc::default(), resumed: Arc::default() };
        for s in [SIGTERM, SIGHUP, SIGINT] {
            signal_hook::flag::register(s, signals.end.clone())?;
        }
        signal_hook::flag::register(SIGTSTP, signals.stop.clone())?;
        signal_hook::flag::register(SIGCONT, signals.resumed.clone())?;
        Ok(signals)
    }

    /// Ends the program soon after the terminal has gone away, as when its window is closed. A read of keys need not return then: the
    /// library goes on reading an end of file for ever.
    fn end_with_terminal(&self) -> io::Result<()> {
        let end = self.end.clone();
        std::thread::Builder::new().name("hang-up".into()).spawn(move || {
            let out = io::stdout();
            // Nothing is asked for: only a hang-up or an error wakes us.
            let mut terminal = [PollFd::new(&out, PollFlags::empty())];
            while let Err(Errno::INTR) = poll(&mut terminal, None) {}
            end.store(true, Ordering::Relaxed);
            std::thread::sleep(GRACE);
            std::process::exit(HUNG_UP);
        })?;
        Ok(())
    }
}

/// Shows the screen until the user leaves it. `content` gives the bytes of files, where they can be had.
pub(crate) fn run(app: &mut App, news: &Receiver<News>, content: Option<&dyn Content>) -> io::Result<Left> {
    let signals = Signals::new()?;
    signals.end_with_terminal()?;
    let mut screen = Screen::new()?;
    let mut reading = true;
    if let Ok(n) = news.recv_timeout(SOON)
        && let Some(left) = take_news(app, n, &mut reading)
    {
        return Ok(left);
    }
    loop {
        screen.terminal.draw(|frame| ui::draw(frame, app))?;
        loop {
            if signals.end.load(Ordering::Relaxed) {
                return Ok(Left::Signal);
            }
            if signals.stop.swap(false, Ordering::Relaxed) {
                screen.suspend()?;
                break;
            }
            if signals.resumed.swap(false, Ordering::Relaxed) {
                // Stopped by a signal that cannot be caught: the shell has had the terminal.
                take()?;
                screen.terminal.clear()?;
                break;
            }
            let mut changed = false;
            while reading {
                match news.try_recv() {
                    Ok(n) => {
                        if let Some(left) = take_news(app, n, &mut reading) {
                            return Ok(left);
                        }
                        changed = true;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        return Err(io::Error::other("reading the image broke off"));
                    }
                }
            }
            if changed {
                break;
            }
            if !event::poll(if reading { BUSY } else { IDLE })? {
                continue;
            }
            // Everything that was typed meanwhile is one frame.
            while event::poll(Duration::ZERO)? {
                let action = match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => app.key(key),
                    Event::Mouse(mouse) => {
                        app.mouse(mouse);
                        None
                    }
                    _ => None,
                };
                match action {
                    None => {}
                    Some(Action::Quit) => return Ok(Left::Quit),
                    Some(Action::Suspend) => screen.suspend()?,
                    Some(Action::View { title, digest, size }) => match read(content, &digest) {
                        Ok(bytes) => app.show_file(title, bytes, size),
                        Err(e) => app.say(format!("cannot read it: {e}")),
                    },
                    Some(Action::Extract { digest, mode, to }) => {
                        match extract(content, &digest, mode, &to) {
                            Ok(n) => app.say(format!(
                                "{} written to {}",
                                crate::human::bytes(n),
                                super::text::line(&to)
                            )),
                            Err(e) => app.say(format!("cannot write {}: {e}", super::text::line(&to))),
                        }
                    }
                }
            }
            break;
        }
    }
}

/// Gives news to the screen.
fn take_news(app: &mut App, news: News, reading: &mut bool) -> Option<Left> {
    match news {
        News::Loaded(loaded, base) => {
            app.loaded(*loaded, base);
            *reading = false;
        }
        News::Failed(e) => return Some(Left::Failed(e)),
    }
    None
}

fn available(content: Option<&dyn Content>) -> io::Result<&dyn Content> {
    content.ok_or_else(|| {
        io::Error::other("only images of the local store have their files at hand; load or pull it first")
    })
}

/// The first bytes of a file.
fn read(content: Option<&dyn Content>, digest: &Digest) -> io::Result<Vec<u8>> {
    let object = available(content)?.open(digest)?;
    let mut bytes = vec![0; SHOWN as usize];
    let mut len = 0;
    while len < bytes.len() {
        match object.read_at(&mut bytes[len..], len as u64)? {
            0 => break,
            n => len += n,
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Writes a file with its permissions, but for set-id bits. Nothing that is there is replaced. Gives the number of bytes.
fn extract(content: Option<&dyn Content>, digest: &Digest, mode: u32, to: &str) -> io::Result<u64> {
    let object = available(content)?.open(digest)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o777 | 0o200).open(to)?;
    let written = (|| {
        let mut buf = vec![0; 256 << 10];
        let mut at = 0;
        loop {
            match object.read_at(&mut buf, at)? {
                0 => return file.flush().map(|()| at),
                n => {
                    file.write_all(&buf[..n])?;
                    at += n as u64;
                }
            }
        }
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(to);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::content::MemoryContent;

    #[test]
    fn a_file_is_written_whole_and_nothing_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("out");
        let to = to.to_str().unwrap();
        let bytes: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
        let mut content = MemoryContent::default();
        let digest = content.add(&bytes);
        assert_eq!(extract(Some(&content), &digest, 0o4755, to).unwrap(), 700_000);
        assert_eq!(std::fs::read(to).unwrap(), bytes);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(to).unwrap().permissions());
        assert_eq!(mode & 0o7000, 0, "no set-id bits");
        let again = extract(Some(&content), &digest, 0o644, to).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        std::fs::write(to, "mine").unwrap();
        assert!(extract(Some(&content), &digest, 0o644, to).is_err());
        assert_eq!(std::fs::read(to).unwrap(), b"mine");
        assert_eq!(read(Some(&content), &digest).unwrap(), bytes);
        assert!(read(None, &digest).is_err());
    }
}
