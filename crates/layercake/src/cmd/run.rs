//! `layercake run`: a command on the files of an image, which are served and not unpacked. Nothing of it is kept.

mod options;
mod picture;
pub(crate) mod process;
mod terminal;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;

use build::{BuildError, View, Views};
use sandbox::{Limits, Mount, Network, Rlimit, Security, Step, User};
use store::Store;

use self::picture::Picture;
use crate::cmd::load::platform;
use crate::error::{CommandError, Kind};
use crate::limits::LimitArgs;
use crate::{context, output, values};

/// `layercake run`
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "layercake run [OPTIONS] IMAGE [COMMAND] [ARG]...",
    after_help = "\
The command runs on a view of the image; what it writes is gone when it ends. The exit code is that of the command; 128 and the \
number of the signal if one killed it; 125 if it could not be started for another reason than 126 (it cannot be executed) \
or 127 (it is not there)."
)]
pub(crate) struct RunArgs {
    /// Name or id of the image, which is pulled if it is not in the store; and a command in place of the image's own
    #[arg(value_name = "IMAGE [COMMAND] [ARG]", required = true, trailing_var_arg = true)]
    image_and_command: Vec<String>,
    /// Give it this program's standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Keep nothing (always so)
    #[arg(long)]
    rm: bool,
    /// Set a variable; without a value it is taken from the environment (repeatable)
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// File with lines KEY=VALUE (repeatable)
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Show a directory, file or socket of this machine (repeatable)
    #[arg(short, long, value_name = "PATH:TARGET[:ro]")]
    volume: Vec<String>,
    /// Empty directory in memory; options size and mode (repeatable)
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Directory to start in [default: the image's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who runs it [default: the image's user]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Entry point in place of the image's; empty: none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Network: host, none, or pasta (one of its own that leads outside)
    #[arg(long, alias = "net", value_name = "MODE", default_value = "host")]
    network: String,
    /// Host name [default: the beginning of the image's id]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// A line for /etc/hosts (repeatable)
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// All capabilities, no system call filter, nothing hidden
    #[arg(long)]
    privileged: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", default_value = "64m")]
    shm_size: String,
    /// How the files are shown: auto, fuse, overlay or copy [default: auto, the first of the others that works here; env LAYERCAKE_VIEW]
    #[arg(long, value_name = "HOW")]
    view: Option<String>,
    /// Limit: NAME=SOFT[:HARD] (repeatable)
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// What it may use
    #[command(flatten)]
    limits: LimitArgs,
    /// When to ask the registry for the image
    #[arg(long, value_enum, default_value = "missing")]
    pull: When,
    /// Fetch the files of an image from the registry when they are read, where its layers allow it (eStargz, zstd:chunked)
    #[arg(long, value_enum, default_value = "auto")]
    lazy: LazyMode,
    /// Platform to take from images for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Registry that may be used over http or with a bad certificate (repeatable)
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure: Vec<String>,
    /// Show no progress of a pull
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum When {
    Missing,
    Always,
    Never,
}

/// Whether files may be left in the registry until they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LazyMode {
    Auto,
    Off,
}

/// What the flags say, whatever the image is.
struct Wanted<'a> {
    name: &'a str,
    command: &'a [String],
    network: Network,
    mounts: Vec<Mount>,
    hosts: Vec<(String, String)>,
    rlimits: Vec<Rlimit>,
    limits: Limits,
    shm_size: u64,
    env: Vec<(String, String)>,
}

/// Runs the command. What goes wrong before the container's command runs is 125, as with Docker.
pub(crate) fn run(root: Option<PathBuf>, args: &RunArgs) -> Result<ExitCode, CommandError> {
    match start(root, args) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(mut e) => {
            if e.kind != Kind::Interrupted {
                e.code = e.code.or(Some(125));
            }
            Err(e)
        }
    }
}

fn start(root: Option<PathBuf>, args: &RunArgs) -> Result<u8, CommandError> {
    let (name, command) = args.image_and_command.split_first().map_or(("", &[][..]), |(n, c)| (n, c));
    let platform = platform(args.platform.as_deref())?;
    let network = match args.network.as_str() {
        "host" => Network::Host,
        "none" => Network::None,
        "pasta" => Network::Pasta,
        other => {
            return Err(CommandError::usage(format!("--network {other:?} is not known"))
                .hint("it is host, none or pasta"));
        }
    };
    let view = values::view(args.view.as_deref())?;
    let wanted = Wanted {
        name,
        command,
        network,
        mounts: options::mounts(&args.volume, &args.tmpfs)?,
        hosts: args.add_host.iter().map(|h| values::host(h)).collect::<Result<Vec<_>, _>>()?,
        rlimits: args.ulimit.iter().map(|u| values::ulimit(u)).collect::<Result<Vec<_>, _>>()?,
        limits: args.limits.limits()?,
        shm_size: values::bytes("shm-size", &args.shm_size)?,
        env: options::environment(&args.env_file, &args.env)?,
    };
    if args.tty && args.interactive && !rustix::termios::isatty(rustix::stdio::stdin()) {
        return Err(CommandError::usage("-t with -i needs a terminal, and standard input is none")
            .hint("leave out -t"));
    }
    let store = context::store(root)?;
    let signals = process::Signals::catch()?;
    // Only files that are served can come when they are read.
    if args.lazy == LazyMode::Auto
        && matches!(view, View::Auto | View::Fuse)
        && let Some(picture) = picture::of_registry(&store, args, name, &platform, &signals)?
    {
        let no_fuse = Cell::new(false);
        let code = container(&store, args, &wanted, &picture, View::Fuse, &signals, &no_fuse);
        if !(no_fuse.get() && view == View::Auto) {
            picture.end();
            return code;
        }
        if !args.quiet {
            output::note("there is no FUSE here, and other ways to show files need all of them");
        }
    }
    let picture = picture::of_store(&store, args, name, &platform, &signals)?;
    container(&store, args, &wanted, &picture, view, &signals, &Cell::new(false))
}

/// Runs the command on the files of an image. Says in `no_fuse` whether it failed because there is no FUSE here.
fn container(
    store: &Store,
    args: &RunArgs,
    wanted: &Wanted<'_>,
    picture: &Picture,
    view: View,
    signals: &process::Signals,
    no_fuse: &Cell<bool>,
) -> Result<u8, CommandError> {
    let run = &picture.config.config;
    let argv = options::command(
        run.entrypoint.as_deref(),
        run.cmd.as_deref(),
        args.entrypoint.as_deref(),
        wanted.command,
    );
    if argv.is_empty() {
        let name = wanted.name;
        return Err(CommandError::new(
            Kind::User,
            format!("{name} has neither a command nor an entry point"),
        )
        .hint(format!("say what to run: layercake run {name} COMMAND")));
    }
    let content = picture.content();
    let user = args.user.as_deref().unwrap_or(&run.user);
    let who = build::users::for_process(user, &picture.tree, &*content).map_err(BuildError::from)?;
    let hostname = args.hostname.clone().unwrap_or_else(|| picture.id.short());
    let mut env = options::image_environment(&run.env, &hostname, args.tty);
    options::merge(&mut env, wanted.env.clone());
    if !env.iter().any(|(k, _)| k == "HOME") {
        env.push(("HOME".into(), who.home.clone().unwrap_or_else(|| "/".into())));
    }
    let scratch = store.scratch()?;
    let step = Step {
        tree: picture.tree.clone(),
        content,
        files: sandbox::Files::Fuse,
        scratch: scratch.path().to_owned(),
        argv,
        env,
        cwd: options::directory(&run.working_dir, args.workdir.as_deref())?.into_bytes(),
        user: User { uid: who.uid, gid: who.gid, groups: who.groups },
        etc_hosts: options::etc_hosts(&hostname, &wanted.hosts),
        hostname,
        resolv_conf: values::resolv_conf(),
        network: wanted.network,
        security: if args.privileged { Security::Insecure } else { Security::Sandbox },
        mounts: wanted.mounts.clone(),
        shm_size: wanted.shm_size,
        rlimits: wanted.rlimits.clone(),
        limits: wanted.limits.clone(),
        stdio: process::stdio(args.interactive, args.tty),
    };
    // Nobody wants to know of a container what it reads, so another way to show it its files is no loss worth a word.
    let warn = |what, text: String| {
        if what == build::Shortfall::Limits {
            output::note(&format!("warning: {text}"));
        }
    };
    let views = Views::new(view);
    let start = || {
        views.spawn(store, &step, &picture.layers, &warn).map_err(|e| {
            no_fuse.set(matches!(&e, BuildError::Sandbox(e) if e.is_without_fuse()));
            e.into()
        })
    };
    process::run(start, args.interactive, signals)
}
