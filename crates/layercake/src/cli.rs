//! The command line's shape, and nothing else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cmd;
use crate::table::Format;

/// Build, understand and shrink container images.
#[derive(Debug, Parser)]
#[command(name = "layercake", version, disable_help_subcommand = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// Directory of the store [default: /var/lib/layercake for root, else in the user's data directory; env LAYERCAKE_ROOT]
    #[arg(long, global = true, value_name = "DIR", display_order = 900)]
    pub(crate) root: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Say why the steps of a build ran, or did not
    Explain(Box<cmd::explain::ExplainArgs>),
    /// Say what to change in a Dockerfile, measured in bytes and seconds
    Advise(Box<cmd::advise::AdviseArgs>),
    /// Run a command on an image; nothing of it is kept
    Run(Box<cmd::run::RunArgs>),
    /// List images
    Images(cmd::images::ImagesArgs),
    /// Show how an image came to be, and how large each layer is
    History(cmd::history::HistoryArgs),
    /// Show what is different between two images
    Diff(cmd::diff::DiffArgs),
    /// Show where every byte of an image comes from, what of it is waste, and what to change
    #[command(visible_alias = "dive")]
    Analyse(Box<cmd::analyse::AnalyseArgs>),
    /// Show everything about images, as JSON
    Inspect(cmd::inspect::InspectArgs),
    /// Give an image a further name
    Tag(cmd::tag::TagArgs),
    /// Remove images, or names of them
    Rmi(cmd::rmi::RmiArgs),
    /// Get an image from a registry
    Pull(cmd::pull::PullArgs),
    /// Send an image to a registry
    Push(cmd::push::PushArgs),
    /// Write images to an archive
    Save(cmd::save::SaveArgs),
    /// Read images from an archive
    Load(cmd::load::LoadArgs),
    /// Make an image from the tar of a root file system
    Import(cmd::import::ImportArgs),
    /// Write the files of an image as one tar
    Export(cmd::export::ExportArgs),
    /// Show the files of an image in a directory, read-only
    Mount(cmd::mount::MountArgs),
    /// Log in to a registry
    Login(cmd::login::LoginArgs),
    /// Forget the credentials for a registry
    Logout(cmd::logout::LogoutArgs),
    /// Check a Dockerfile without building it
    Check(cmd::check::CheckArgs),
    /// Show how much room the store takes
    Du(cmd::du::DuArgs),
    /// Free room in the store
    Prune(cmd::prune::PruneArgs),
    /// Check everything in the store
    Verify(cmd::verify::VerifyArgs),
}

/// What a failed build does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnError {
    Stop,
    Export,
    ExportFailed,
    Shell,
}

/// `layercake build`: the flags of `docker buildx build`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Files to build from: a directory, a git repository (URL[#REF[:DIR]]), the URL of an archive or Dockerfile, or - for one of these
    /// on standard input
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(crate) context: String,
    /// Dockerfile: a path, a URL, or - for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) file: Option<String>,
    /// Build nothing; answer a question: check, outline or targets, with [,format=json][,ignorestatus=BOOL]; check also with [,rules=all]
    #[arg(long, value_name = "METHOD", default_value = "build", hide_default_value = true)]
    pub(crate) call: String,
    /// Build nothing; run the build checks (as --call check)
    #[arg(long)]
    pub(crate) check: bool,
    /// Build nothing; list what is in the context, and which instruction takes what
    #[arg(long)]
    pub(crate) list_context: bool,
    /// How to print a list
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Name of the image, optionally with a tag (repeatable)
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Vec<String>,
    /// Stage to build [default: the last]; with several, names and destinations hold {target} (repeatable)
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Vec<String>,
    /// Set a build argument; without a value it is taken from the environment (repeatable)
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Expand ARGs in COPY --from, too (which BuildKit refuses)
    #[arg(long)]
    pub(crate) expand_from: bool,
    /// Another context or image by name: a directory, a git or http(s) URL, docker-image://REF, oci-layout://DIR[:TAG|@DIGEST]
    /// (repeatable)
    #[arg(long, value_name = "NAME=SOURCE")]
    pub(crate) build_context: Vec<String>,
    /// Set a label of the image (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Platforms to build for; several make one image with an index [default: this machine's] (repeatable, comma list)
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// The same files give the same image, byte for byte, on another day: as SOURCE_DATE_EPOCH (which is the date of the last commit, if it
    /// is not given) and rewrite-timestamp=true for all outputs
    #[arg(long)]
    pub(crate) reproducible: bool,
    /// Do not use earlier results
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Begin with empty cache mounts (--no-cache leaves them alone)
    #[arg(long)]
    pub(crate) no_cache_mounts: bool,
    /// Which earlier results may be used: traced (nothing that the step read changed) or chain (Docker's rule)
    #[arg(long, value_name = "RULE", default_value = "traced")]
    pub(crate) cache: String,
    /// Whether a file whose bytes changed counts as unchanged where it is proved to mean the same to the step (/etc/ld.so.cache): on or off
    #[arg(long, value_name = "on|off", default_value = "on")]
    pub(crate) cache_semantics: String,
    /// When a result counts as an earlier one: exact (all but times is equal) or noise (logs of apt and the like do not count either)
    #[arg(long, value_name = "RULE", default_value = "exact")]
    pub(crate) cutoff: String,
    /// How RUN steps are shown the files that they start from: auto, fuse, overlay or copy; only with fuse it is seen what they read
    /// [default: auto, the first of the others that works here; env LAYERCAKE_VIEW]
    #[arg(long, value_name = "HOW")]
    pub(crate) view: Option<String>,
    /// Do not use earlier results for these stages (repeatable, comma list)
    #[arg(long, value_name = "STAGES", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Ask the registry for base images even if the store has them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) pull: Option<bool>,
    /// Push the image after the build (as --output type=registry)
    #[arg(long)]
    pub(crate) push: bool,
    /// Put the image into the store (always done)
    #[arg(long)]
    pub(crate) load: bool,
    /// What to make: type=image|registry|oci|docker|local|tar[,dest=PATH][,...], or a directory (repeatable)
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) output: Vec<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write the build's result as JSON to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// When a step fails: stop; export the files below it, or with export-failed also what it wrote, to --output; open a shell in what it left
    #[arg(
        long,
        value_enum,
        default_value = "stop",
        hide_possible_values = true,
        value_name = "stop|export|export-failed|shell"
    )]
    pub(crate) on_error: OnError,
    /// How to show progress: auto, tty, plain, rawjson, quiet
    #[arg(long, value_name = "KIND")]
    pub(crate) progress: Option<String>,
    /// Print only the image's id
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME] (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(crate) secret: Vec<String>,
    /// An SSH agent for RUN --mount=type=ssh and for git over ssh: default or ID[=SOCKET|=KEY,...] (repeatable)
    #[arg(long, value_name = "SPEC")]
    pub(crate) ssh: Vec<String>,
    /// Show RUN steps a directory or file of this machine; what is in it is no part of the cache (repeatable)
    #[arg(short, long, value_name = "PATH:TARGET[:ro]")]
    pub(crate) volume: Vec<String>,
    /// Network of RUN steps: default (the host's), host (also for RUN --network=host), none, or pasta (one of its own that leads outside)
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub(crate) network: String,
    /// A line for /etc/hosts of RUN steps: NAME:ADDRESS (repeatable)
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// Allow something extraordinary: network.host, security.insecure (repeatable)
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    /// Size of /dev/shm of RUN steps, such as 128m
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// Limit of RUN steps: NAME=SOFT[:HARD] (repeatable)
    #[arg(long, value_name = "LIMIT")]
    pub(crate) ulimit: Vec<String>,
    /// What each RUN step may use; no part of the cache
    #[command(flatten)]
    pub(crate) limits: crate::limits::LimitArgs,
    /// How many steps may run at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) jobs: usize,
    /// Registry that may be used over http or with a bad certificate (repeatable)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure: Vec<String>,
    /// What Docker's builder takes, too, and what makes no difference here.
    #[arg(long, hide = true)]
    pub(crate) rm: bool,
    #[arg(long, hide = true)]
    pub(crate) force_rm: bool,
    #[arg(long, hide = true)]
    pub(crate) compress: bool,
    /// Scripts turn them off.
    #[arg(long, hide = true, value_name = "false")]
    pub(crate) provenance: Option<String>,
    #[arg(long, hide = true, value_name = "false")]
    pub(crate) sbom: Option<String>,
}
