//! `layercake mount`: the files of an image in a directory, served and not unpacked.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::{Arc, mpsc};

use rustix::process::{Pid, kill_process};
use sandbox::Mounted;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{CommandError, Kind};
use crate::{context, image, output};

/// `layercake mount`
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "layercake mount [OPTIONS] IMAGE DIR [-- COMMAND [ARG]...]",
    after_help = "\
The files are read-only, without device files and set-user-ID programs. With a command only that one sees them, and its exit code \
is passed on. Without one everybody on this machine does, until the directory is unmounted or the program gets Ctrl-C; that takes root."
)]
pub(crate) struct MountArgs {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Directory to show its files in
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// What is to see them
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(root: Option<PathBuf>, args: &MountArgs) -> Result<ExitCode, CommandError> {
    if args.command.is_empty() && !crate::rootless::is_root() {
        return Err(CommandError::usage(
            "without root a mount is seen by nobody but a command that is started with it",
        )
        .hint(format!("write: layercake mount {} {} -- COMMAND", args.image, args.dir.display())));
    }
    // What a killed one left there is no directory, and is replaced.
    let left = rustix::fs::stat(&args.dir).err() == Some(rustix::io::Errno::NOTCONN);
    if !left && !args.dir.is_dir() {
        return Err(CommandError::new(Kind::User, format!("there is no directory {}", args.dir.display())));
    }
    let store = context::store(root)?;
    let image = image::get(&store, &args.image)?;
    let tree = Arc::new(build::export::tree(&store, &image.record.layers)?);
    let loan = store.lend();
    let failed = |e: std::io::Error| CommandError::new(Kind::Internal, format!("cannot handle signals: {e}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]).map_err(failed)?;
    let mut mounted = Mounted::mount(tree, loan.content(), &args.dir, !args.command.is_empty())
        .map_err(build::BuildError::from)?;
    let code = match args.command.split_first() {
        None => {
            output::line(&format!("{} is on {} until Ctrl-C or umount", args.image, args.dir.display()));
            let (ended, end) = mpsc::channel();
            let unmounted = mounted.end();
            let by_signal = ended.clone();
            // Neither thread is waited for: the first of the two ends the program.
            std::thread::spawn(move || signals.forever().next().map(|_| by_signal.send(())));
            std::thread::spawn(move || {
                unmounted();
                ended.send(())
            });
            let _ = end.recv();
            0
        }
        Some((program, words)) => {
            let child = Command::new(program).args(words).spawn();
            let mut child = child.map_err(|e| {
                let code = if e.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
                let mut error = CommandError::new(Kind::User, format!("cannot run {program}: {e}"));
                error.code = Some(code);
                error
            })?;
            let pid = Pid::from_child(&child);
            std::thread::spawn(move || {
                // Those of the terminal have reached the command, too.
                for signal in signals.forever().filter(|s| matches!(*s, SIGTERM | SIGHUP)) {
                    let signal = rustix::process::Signal::from_named_raw(signal);
                    let _ = signal.map(|s| kill_process(pid, s));
                }
            });
            let status = child
                .wait()
                .map_err(|e| CommandError::new(Kind::Internal, format!("wait for {program}: {e}")))?;
            status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(255)
        }
    };
    let read = mounted.failure().map_err(build::BuildError::from);
    drop((mounted, loan));
    read?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}
