//! `layercake run`: a command on the files of an image, which are served and not unpacked. Nothing of it is kept.

mod options;
pub(crate) mod process;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use oci::platform::Platform;
use sandbox::{Network, Security, Step, User};
use store::Store;

use crate::cmd::load::platform;
use crate::cmd::pull;
use crate::error::{CommandError, Kind};
use crate::image::{self, Image};
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
    let wanted = platform(args.platform.as_deref())?;
    let network = match args.network.as_str() {
        "host" => Network::Host,
        "none" => Network::None,
        "pasta" => Network::Pasta,
        other => {
            return Err(CommandError::usage(format!("--network {other:?} is not known"))
                .hint("it is host, none or pasta"));
        }
    };
    let mounts = options::mounts(&args.volume, &args.tmpfs)?;
    let hosts = args.add_host.iter().map(|h| values::host(h)).collect::<Result<Vec<_>, _>>()?;
    let rlimits = args.ulimit.iter().map(|u| values::ulimit(u)).collect::<Result<Vec<_>, _>>()?;
    let limits = args.limits.limits()?;
    let views = build::Views::new(values::view(args.view.as_deref())?);
    let shm_size = values::bytes("shm-size", &args.shm_size)?;
    let own_env = options::environment(&args.env_file, &args.env)?;
    if args.tty && args.interactive && !rustix::termios::isatty(rustix::stdio::stdin()) {
        return Err(CommandError::usage("-t with -i needs a terminal, and standard input is none")
            .hint("leave out -t"));
    }
    let store = context::store(root)?;
    let signals = process::Signals::catch()?;
    let image = get(&store, args, name, &wanted, &signals)?;
    let run = &image.config.config;
    let argv =
        options::command(run.entrypoint.as_deref(), run.cmd.as_deref(), args.entrypoint.as_deref(), command);
    if argv.is_empty() {
        return Err(CommandError::new(
            Kind::User,
            format!("{name} has neither a command nor an entry point"),
        )
        .hint(format!("say what to run: layercake run {name} COMMAND")));
    }
    let tree = Arc::new(build::export::tree(&store, &image.record.layers)?);
    let user = args.user.as_deref().unwrap_or(&run.user);
    let who = build::users::for_process(user, &tree, &store).map_err(build::BuildError::from)?;
    let hostname = args.hostname.clone().unwrap_or_else(|| image.record.id.short());
    let mut env = options::image_environment(&run.env, &hostname, args.tty);
    options::merge(&mut env, own_env);
    if !env.iter().any(|(k, _)| k == "HOME") {
        env.push(("HOME".into(), who.home.clone().unwrap_or_else(|| "/".into())));
    }
    let scratch = store.scratch()?;
    let loan = store.lend();
    let step = Step {
        tree,
        content: loan.content(),
        files: sandbox::Files::Fuse,
        scratch: scratch.path().to_owned(),
        argv,
        env,
        cwd: options::directory(&run.working_dir, args.workdir.as_deref())?.into_bytes(),
        user: User { uid: who.uid, gid: who.gid, groups: who.groups },
        etc_hosts: options::etc_hosts(&hostname, &hosts),
        hostname,
        resolv_conf: values::resolv_conf(),
        network,
        security: if args.privileged { Security::Insecure } else { Security::Sandbox },
        mounts,
        shm_size,
        rlimits,
        limits,
        stdio: process::stdio(args.interactive, args.tty),
    };
    // Nobody wants to know of a container what it reads, so another way to show it its files is no loss worth a word.
    let warn = |what, text: String| {
        if what == build::Shortfall::Limits {
            output::note(&format!("warning: {text}"));
        }
    };
    let start = || Ok(views.spawn(&store, &step, &image.record.layers, &warn)?);
    let code = process::run(start, args.interactive, &signals);
    drop(loan);
    code
}

/// The image, pulled if need be.
fn get(
    store: &Store,
    args: &RunArgs,
    name: &str,
    platform: &Platform,
    signals: &process::Signals,
) -> Result<Image, CommandError> {
    if args.pull != When::Always
        && let Some(image) = image::find(store, name)?
    {
        let have = image.platform();
        if args.platform.is_none() || platform.accepts(&have) {
            return Ok(image);
        }
        if args.pull == When::Never {
            return Err(CommandError::new(Kind::User, format!("{name} is for {have}, not for {platform}")));
        }
    }
    if args.pull == When::Never {
        return image::get(store, name);
    }
    let reference = image::reference(name)?;
    let client = context::client(&args.insecure, signals.cancel())?;
    pull::pull(store, &client, &reference, platform, args.quiet)?;
    image::get(store, &reference.to_string())
}
