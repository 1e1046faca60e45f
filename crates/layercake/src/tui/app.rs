//! The analyser's screen as plain data: what keys and the mouse do to it. Nothing here touches a terminal or a file.

use std::sync::Arc;

use analyse::Image;
use oci::Digest;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::compare::{Compare, Mode};
use super::facts::{self, Finding, Wasted};
use super::layers::{LayerList, Line};
use super::pattern::Pattern;
use super::prompt::{Prompt, Purpose, Typed};
use super::stack::{NodeId, ROOT, Stack};
use super::text;
use super::view::{FileView, Order};
use super::viewer::Viewer;

/// Rows of the list of wasted bytes.
const WASTED: usize = 500;
/// Rows that the wheel of a mouse moves.
const WHEEL: isize = 3;

/// A pane that takes keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pane {
    Layers,
    Layer,
    Image,
    Findings,
    Tree,
}

/// Panes on the left, in the order that the arrows go.
pub(crate) const LEFT: [Pane; 4] = [Pane::Layers, Pane::Layer, Pane::Image, Pane::Findings];

/// What lies over everything.
#[derive(Debug)]
pub(crate) enum Popup {
    Help { top: usize },
    File(Viewer),
}

/// What the terminal's owner has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    Suspend,
    /// Read the beginning of a file and give it to [`App::show_file`].
    View {
        title: String,
        digest: Digest,
        size: u64,
    },
    /// Write a file and tell [`App::say`].
    Extract {
        digest: Digest,
        mode: u32,
        to: String,
    },
}

/// Where things were drawn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Areas {
    pub(crate) layers: Rect,
    pub(crate) tabs: [Rect; 3],
    pub(crate) details: Rect,
    pub(crate) tree: Rect,
}

/// Everything that is known once the image is read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) stack: Stack,
    pub(crate) view: FileView,
    pub(crate) wasted: Vec<Wasted>,
    pub(crate) findings: Vec<Finding>,
}

/// A layer, as far as the config speaks of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Preview {
    /// What made it, in one line.
    pub(crate) instruction: String,
}

/// What is read of the image so far.
#[derive(Debug)]
pub(crate) enum Phase {
    Reading,
    Ready(Box<Loaded>),
}

/// The state of the screen.
#[derive(Debug)]
pub(crate) struct App {
    /// What was asked for.
    pub(crate) name: String,
    pub(crate) previews: Vec<Preview>,
    pub(crate) phase: Phase,
    pub(crate) layers: LayerList,
    pub(crate) focus: Pane,
    /// Which of the panes below the layers is shown.
    pub(crate) tab: Pane,
    pub(crate) prompt: Option<Prompt>,
    pub(crate) popup: Option<Popup>,
    pub(crate) message: Option<String>,
    /// Permissions and owners are shown.
    pub(crate) attributes: bool,
    /// Long lines are wrapped.
    pub(crate) wrap: bool,
    /// The history of the chosen path is shown.
    pub(crate) history: bool,
    pub(crate) colour: bool,
    pub(crate) areas: Areas,
    /// The first row of the tree on the screen; the drawing keeps the cursor in sight.
    pub(crate) tree_top: usize,
    pub(crate) layers_top: usize,
    /// First line of the layer's details.
    pub(crate) detail_top: usize,
    pub(crate) wasted_at: usize,
    pub(crate) finding_at: usize,
    search: Option<Pattern>,
}

impl App {
    /// A screen that waits for its image.
    pub(crate) fn new(name: &str, previews: Vec<Preview>) -> App {
        App {
            name: text::line(name),
            layers: LayerList::new(previews.len()),
            previews,
            phase: Phase::Reading,
            focus: Pane::Layers,
            tab: Pane::Image,
            prompt: None,
            popup: None,
            message: None,
            attributes: true,
            wrap: false,
            history: false,
            colour: true,
            areas: Areas::default(),
            tree_top: 0,
            layers_top: 0,
            detail_top: 0,
            wasted_at: 0,
            finding_at: 0,
            search: None,
        }
    }

    /// The image is there.
    pub(crate) fn loaded(&mut self, loaded: Loaded, base: usize) {
        let image = loaded.stack.image();
        let chosen = self.layers.chosen();
        let mode = self.layers.mode();
        self.layers = LayerList::new(image.layers.len());
        self.layers.choose(chosen);
        self.layers.set_mode(mode);
        self.layers.set_base(base);
        self.previews = (0..image.layers.len())
            .map(|n| Preview { instruction: text::line(&image.instruction(n)) })
            .collect();
        self.phase = Phase::Ready(Box::new(loaded));
        self.compare();
    }

    /// A line for the user, until the next key.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.message = Some(text.into());
    }

    /// Opens a file that was asked for with [`Action::View`].
    pub(crate) fn show_file(&mut self, title: String, bytes: Vec<u8>, size: u64) {
        self.popup = Some(Popup::File(Viewer::new(title, bytes, size)));
    }

    /// What is known of the image, if it is read.
    pub(crate) fn ready(&self) -> Option<&Loaded> {
        match &self.phase {
            Phase::Ready(l) => Some(l),
            _ => None,
        }
    }

    fn ready_mut(&mut self) -> Option<&mut Loaded> {
        match &mut self.phase {
            Phase::Ready(l) => Some(l),
            _ => None,
        }
    }

    /// The text that is searched for.
    pub(crate) fn searched(&self) -> Option<&Pattern> {
        self.search.as_ref()
    }

    /// Compares what the list of layers says.
    fn compare(&mut self) {
        let (lower, upper) = self.layers.compared();
        self.detail_top = 0;
        if let Some(l) = self.ready_mut() {
            let compare = Compare::new(&l.stack, lower, upper);
            l.view.set_compare(&l.stack, compare);
        }
    }

    /// Focuses a pane; one below the layers comes up.
    pub(crate) fn go(&mut self, pane: Pane) {
        self.focus = pane;
        if matches!(pane, Pane::Layer | Pane::Image | Pane::Findings) {
            self.tab = pane;
        }
    }

    /// Takes a key.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Option<Action> {
        self.message = None;
        if self.prompt.is_some() {
            return self.prompt_key(key);
        }
        if self.popup.is_some() {
            return self.popup_key(key);
        }
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match (key.code, ctrl) {
            (KeyCode::Char('c'), true) | (KeyCode::Char('q'), false) => return Some(Action::Quit),
            (KeyCode::Char('z'), true) => return Some(Action::Suspend),
            (KeyCode::Tab | KeyCode::BackTab, _) => {
                let left = if self.focus == Pane::Tree { Pane::Layers } else { Pane::Tree };
                self.go(left);
            }
            (KeyCode::Char('f' | '/' | '_' | '7' | '\x1f'), true) => self.start_filter(),
            (KeyCode::Esc, _) => self.clear_filter(),
            (KeyCode::Char('?') | KeyCode::F(1), _) => self.popup = Some(Popup::Help { top: 0 }),
            (KeyCode::Char('/'), false) => {
                if self.ready().is_some() {
                    self.prompt = Some(Prompt { purpose: Purpose::Search, text: String::new() });
                }
            }
            (KeyCode::Char('n'), false) => self.find(false, false),
            (KeyCode::Char('N'), false) => self.find(true, false),
            (KeyCode::Char('f'), false) => self.go(Pane::Findings),
            (KeyCode::Char('b'), false) => {
                self.layers.toggle_base();
                self.compare();
            }
            (KeyCode::Char('i'), false) => self.history = !self.history,
            _ if self.focus == Pane::Tree => return self.tree_key(key, ctrl),
            _ => self.left_key(key, ctrl),
        }
        None
    }

    fn left_key(&mut self, key: KeyEvent, ctrl: bool) {
        let page = match self.focus {
            Pane::Layers => self.areas.layers.height,
            _ => self.areas.details.height,
        };
        let page = isize::try_from(page.max(2) - 1).unwrap_or(1);
        match (key.code, ctrl) {
            (KeyCode::Char('a'), true) => self.set_mode(Mode::Aggregated),
            (KeyCode::Char('l'), true) => self.set_mode(Mode::Layer),
            (KeyCode::Up | KeyCode::Char('k'), _) => self.move_left_pane(-1),
            (KeyCode::Down | KeyCode::Char('j'), _) => self.move_left_pane(1),
            (KeyCode::PageUp | KeyCode::Char('u'), _) => self.move_left_pane(-page),
            (KeyCode::PageDown | KeyCode::Char('d'), _) => self.move_left_pane(page),
            (KeyCode::Home | KeyCode::Char('g'), _) => self.move_left_pane(isize::MIN),
            (KeyCode::End | KeyCode::Char('G'), _) => self.move_left_pane(isize::MAX),
            (KeyCode::Left | KeyCode::Char('h'), _) => self.cycle(LEFT.len() - 1),
            (KeyCode::Right | KeyCode::Char('l'), _) => self.cycle(1),
            (KeyCode::Char(' '), false) if self.focus == Pane::Layers => {
                self.layers.toggle_base();
                self.compare();
            }
            (KeyCode::Enter, _) => self.enter(),
            _ => {}
        }
    }

    fn set_mode(&mut self, mode: Mode) {
        self.layers.set_mode(mode);
        self.compare();
    }

    fn cycle(&mut self, steps: usize) {
        let at = LEFT.iter().position(|p| *p == self.focus).unwrap_or(0);
        self.go(LEFT[(at + steps) % LEFT.len()]);
    }

    fn move_left_pane(&mut self, by: isize) {
        let (wasted, findings) = self.ready().map_or((0, 0), |l| (l.wasted.len(), l.findings.len()));
        let moved = |at: usize, len: usize| at.saturating_add_signed(by).min(len.saturating_sub(1));
        match self.focus {
            Pane::Layers => {
                if self.layers.move_by(by) {
                    self.compare();
                }
            }
            Pane::Layer => self.detail_top = self.detail_top.saturating_add_signed(by).min(1000),
            Pane::Image => self.wasted_at = moved(self.wasted_at, wasted),
            Pane::Findings => self.finding_at = moved(self.finding_at, findings),
            Pane::Tree => {}
        }
    }

    /// Enter on the left: to the path that the chosen line speaks of.
    fn enter(&mut self) {
        let Some(l) = self.ready() else { return };
        match self.focus {
            Pane::Findings => {
                let Some(f) = l.findings.get(self.finding_at).cloned() else { return };
                self.jump(f.layer, f.node);
            }
            Pane::Image => {
                let Some(w) = l.wasted.get(self.wasted_at).copied() else { return };
                // The first layer that brought something for nothing is the one to look at.
                let image = l.stack.image();
                let layer = image
                    .history(l.stack.own(w.node))
                    .iter()
                    .find_map(|e| match e.what {
                        analyse::What::Set(id) if image.accounts().charge(id).is_some() => Some(e.layer),
                        _ => None,
                    })
                    .unwrap_or_else(|| self.layers.chosen());
                self.jump(layer, Some(w.node));
            }
            _ => self.go(Pane::Tree),
        }
    }

    /// Goes to a layer and a path in it. Whatever hides the path is taken away.
    fn jump(&mut self, layer: usize, node: Option<NodeId>) {
        self.layers.choose(layer);
        self.compare();
        let Some(node) = node else { return self.go(Pane::Layers) };
        self.history = true;
        self.go(Pane::Tree);
        let Some(l) = self.ready_mut() else { return };
        if !l.view.reveal(&l.stack, node) {
            l.view.set_filter(&l.stack, None);
            l.view.set_hidden(&l.stack, Default::default());
            if !l.view.reveal(&l.stack, node) {
                let path = text::name(&l.stack.path(node));
                self.say(format!("{path} is not there in this layer"));
            }
        }
    }

    fn tree_key(&mut self, key: KeyEvent, ctrl: bool) -> Option<Action> {
        let page = isize::try_from(self.areas.tree.height.max(2) - 1).unwrap_or(1);
        let Phase::Ready(l) = &mut self.phase else { return None };
        let Loaded { stack, view, .. } = &mut **l;
        let mut hidden = view.hidden();
        match (key.code, ctrl) {
            (KeyCode::Up | KeyCode::Char('k'), false) => view.move_by(-1),
            (KeyCode::Down | KeyCode::Char('j'), false) => view.move_by(1),
            (KeyCode::PageUp, _) | (KeyCode::Char('u'), false) => view.move_by(-page),
            (KeyCode::PageDown, _) | (KeyCode::Char('d'), false) => view.move_by(page),
            (KeyCode::Home | KeyCode::Char('g'), false) => view.move_by(isize::MIN),
            (KeyCode::End | KeyCode::Char('G'), false) => view.move_by(isize::MAX),
            (KeyCode::Left | KeyCode::Char('h'), false) => view.left(stack),
            (KeyCode::Right, _) | (KeyCode::Char('l'), false) => view.right(stack),
            (KeyCode::Char(' '), true) | (KeyCode::Null, _) | (KeyCode::Char('@'), true) => {
                view.toggle_all(stack)
            }
            (KeyCode::Char(' '), false) => view.toggle(stack),
            (KeyCode::Char('a'), true) => hidden.added ^= true,
            (KeyCode::Char('r'), true) => hidden.removed ^= true,
            // Most terminals send the same for ctrl+m and Enter.
            (KeyCode::Char('m'), true) | (KeyCode::Enter, _) => hidden.modified ^= true,
            (KeyCode::Char('u'), true) => hidden.unmodified ^= true,
            (KeyCode::Char('b'), true) => self.attributes = !self.attributes,
            (KeyCode::Char('o'), true) => {
                let order = if view.order() == Order::Size { Order::Name } else { Order::Size };
                view.set_order(stack, order);
                self.message =
                    Some(format!("sorted by {}", if order == Order::Size { "size" } else { "name" }));
            }
            (KeyCode::Char('p'), true) => self.wrap = !self.wrap,
            (KeyCode::Char('e'), true) => self.start_extract(),
            (KeyCode::Char('v'), false) => return self.view_file(),
            _ => {}
        }
        if let Some(l) = self.ready_mut()
            && hidden != l.view.hidden()
        {
            l.view.set_hidden(&l.stack, hidden);
            let words = [
                (hidden.added, "added"),
                (hidden.removed, "removed"),
                (hidden.modified, "modified"),
                (hidden.unmodified, "unmodified"),
            ];
            let list: Vec<&str> = words.iter().filter(|w| w.0).map(|w| w.1).collect();
            let text = if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
            self.say(format!("hidden: {text}"));
        }
        None
    }

    /// The file under the cursor: path, digest, size, mode.
    fn chosen_file(&mut self) -> Option<(NodeId, Digest, u64, u32)> {
        let found = self.ready().and_then(|l| {
            let node = l.view.selected()?;
            let state = l.view.compare().cell(node).shown()?;
            let image = l.stack.image();
            let entry = image.entry(l.stack.file(state)?);
            Some((node, *image.digest(entry.content()?), entry.size, u32::from(entry.mode)))
        });
        if found.is_none() {
            self.say("not a regular file");
        }
        found
    }

    fn view_file(&mut self) -> Option<Action> {
        let (node, digest, size, _) = self.chosen_file()?;
        let title = text::name(&self.ready()?.stack.path(node));
        Some(Action::View { title, digest, size })
    }

    fn start_extract(&mut self) {
        let Some((node, ..)) = self.chosen_file() else { return };
        let Some(l) = self.ready() else { return };
        // A name that is safe to type and to show; the user may write another.
        let text = String::from_utf8_lossy(l.stack.name(node))
            .chars()
            .map(|c| if c.is_control() { '_' } else { c })
            .collect::<String>();
        self.prompt = Some(Prompt { purpose: Purpose::Extract, text: format!("./{text}") });
    }

    fn start_filter(&mut self) {
        if let Some(l) = self.ready() {
            let text = l.view.filter().map(|p| p.text().to_owned()).unwrap_or_default();
            self.prompt = Some(Prompt { purpose: Purpose::Filter, text });
            self.go(Pane::Tree);
        }
    }

    fn clear_filter(&mut self) {
        self.search = None;
        if let Some(l) = self.ready_mut()
            && l.view.filter().is_some()
        {
            l.view.set_filter(&l.stack, None);
        }
    }

    fn prompt_key(&mut self, key: KeyEvent) -> Option<Action> {
        let prompt = self.prompt.as_mut()?;
        let typed = prompt.key(key);
        let (purpose, text) = (prompt.purpose, prompt.text.clone());
        match typed {
            Typed::Ignored => return None,
            Typed::Changed => {}
            Typed::Done | Typed::Cancelled => self.prompt = None,
        }
        match (purpose, typed) {
            (Purpose::Filter, Typed::Cancelled) => self.clear_filter(),
            (Purpose::Filter, _) => self.set_filter(&text),
            (Purpose::Search, Typed::Cancelled) => self.search = None,
            (Purpose::Search, typed) => {
                match Pattern::new(&text) {
                    Ok(p) if !text.is_empty() => self.search = Some(p),
                    Ok(_) => self.search = None,
                    Err(e) => return self.complain(e.0),
                }
                if typed == Typed::Done {
                    self.go(Pane::Tree);
                }
                self.find(false, true);
            }
            (Purpose::Extract, Typed::Done) if !text.is_empty() => {
                let (_, digest, _, mode) = self.chosen_file()?;
                return Some(Action::Extract { digest, mode, to: text });
            }
            (Purpose::Extract, _) => {}
        }
        None
    }

    fn complain(&mut self, what: &str) -> Option<Action> {
        self.say(format!("the pattern has {what}"));
        None
    }

    fn set_filter(&mut self, text: &str) {
        let pattern = match Pattern::new(text) {
            Ok(p) => Some(p).filter(|_| !text.is_empty()),
            Err(e) => {
                self.complain(e.0);
                return;
            }
        };
        let Some(l) = self.ready_mut() else { return };
        l.view.set_filter(&l.stack, pattern);
        // What was filtered for should be seen.
        if l.view.filter().is_some() {
            l.view.open_few(&l.stack, 200);
        }
    }

    /// Goes to the next (or previous) match of the search.
    fn find(&mut self, back: bool, from_here: bool) {
        let (Some(pattern), Some(_)) = (self.search.clone(), self.ready()) else { return };
        let Some(l) = self.ready_mut() else { return };
        match l.view.search(&l.stack, &pattern, back, from_here) {
            Some(hit) => {
                l.view.reveal(&l.stack, hit.node);
                self.say(format!("match {} of {}", hit.number, hit.of));
            }
            None => self.say(format!("no name matches {}", text::line(pattern.text()))),
        }
        if self.focus != Pane::Tree && self.prompt.is_none() {
            self.go(Pane::Tree);
        }
    }

    fn popup_key(&mut self, key: KeyEvent) -> Option<Action> {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        let page = isize::try_from(self.areas.tree.height.max(2) - 1).unwrap_or(1);
        let by = match (key.code, ctrl) {
            (KeyCode::Char('c'), true) => return Some(Action::Quit),
            (KeyCode::Char('z'), true) => return Some(Action::Suspend),
            (KeyCode::Esc | KeyCode::Char('q' | '?'), _) => {
                self.popup = None;
                return None;
            }
            (KeyCode::Up | KeyCode::Char('k'), _) => -1,
            (KeyCode::Down | KeyCode::Char('j'), _) => 1,
            (KeyCode::PageUp | KeyCode::Char('u'), _) => -page,
            (KeyCode::PageDown | KeyCode::Char('d' | ' '), _) => page,
            (KeyCode::Home | KeyCode::Char('g'), _) => isize::MIN,
            (KeyCode::End | KeyCode::Char('G'), _) => isize::MAX,
            _ => 0,
        };
        match self.popup.as_mut()? {
            Popup::Help { top } => *top = top.saturating_add_signed(by).min(100),
            Popup::File(v) => match (key.code, ctrl) {
                (KeyCode::Char('x'), false) => v.toggle_hex(),
                (KeyCode::Left | KeyCode::Char('h'), _) => v.shift(-8),
                (KeyCode::Right | KeyCode::Char('l'), _) => v.shift(8),
                (KeyCode::Char('v'), false) => self.popup = None,
                (KeyCode::Char('e'), true) => self.start_extract(),
                _ => v.scroll(by),
            },
        }
        None
    }

    /// Takes something that the mouse did.
    pub(crate) fn mouse(&mut self, event: MouseEvent) {
        let at = Position { x: event.column, y: event.row };
        let by = match event.kind {
            MouseEventKind::ScrollUp => -WHEEL,
            MouseEventKind::ScrollDown => WHEEL,
            MouseEventKind::Down(MouseButton::Left) => 0,
            _ => return,
        };
        self.message = None;
        match &mut self.popup {
            Some(Popup::File(v)) => return v.scroll(by),
            Some(Popup::Help { top }) => {
                *top = top.saturating_add_signed(by).min(100);
                return;
            }
            None => {}
        }
        let areas = self.areas;
        let row = |area: Rect| usize::from(at.y.saturating_sub(area.y));
        if areas.layers.contains(at) {
            self.go(Pane::Layers);
            let moved = match by {
                0 => self.layers.put(self.layers_top + row(areas.layers)),
                by => self.layers.move_by(by.signum()),
            };
            if moved {
                self.compare();
            }
        } else if let Some(n) = areas.tabs.iter().position(|t| t.contains(at)).filter(|_| by == 0) {
            self.go(LEFT[n + 1]);
        } else if areas.details.contains(at) {
            self.go(self.tab);
            if by != 0 {
                self.move_left_pane(by);
            }
        } else if areas.tree.contains(at) {
            self.go(Pane::Tree);
            let (top, wrap) = (self.tree_top, self.wrap);
            let Some(l) = self.ready_mut() else { return };
            if by != 0 {
                l.view.move_by(by);
            } else if !wrap && top + row(areas.tree) < l.view.rows().len() {
                let before = l.view.cursor();
                l.view.put(top + row(areas.tree));
                // A second click opens and closes.
                if l.view.cursor() == before {
                    l.view.toggle(&l.stack);
                }
            }
        }
    }
}

/// Everything that the screen needs of an image: the work that is done before [`App::loaded`].
pub(crate) fn prepare(image: Arc<Image>) -> Loaded {
    let stack = Stack::new(image);
    let first = stack.image().layers.len().min(1);
    let mut view = FileView::new(&stack, Compare::new(&stack, 0, first));
    // A directory that is alone is opened: nobody wants to see only that.
    let mut at = ROOT;
    while let Some(only) = view.only_child(&stack, at) {
        view.open(&stack, only);
        at = only;
    }
    let wasted = facts::wasted(&stack, WASTED);
    let findings = facts::findings(&stack);
    Loaded { stack, view, wasted, findings }
}

/// The line of the list that stands for a layer.
pub(crate) fn label(line: Line) -> String {
    match line {
        Line::Base => "base".to_owned(),
        Line::Layer(n) => n.to_string(),
    }
}
