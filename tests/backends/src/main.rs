//! A build backend for tests and examples: it packages a directory.
//!
//! It speaks the JSON-RPC protocol of pixi's build backends (`pixi-build-api-version` 7) on its standard streams, one
//! message a line, and ends when its standard input does. It shares no code with what it is used to test: what both
//! sides of the protocol believe is written down twice.
//!
//! # What it builds
//!
//! Everything of the source directory that matches `files` goes into the package. `content/` is taken off the front
//! of a path, so `content/bin/x` is installed as `bin/x`. Files under `bin/`, and files that are executable in the
//! source, get mode 755, all others 644; symbolic links stay links. Hidden entries at the top of the source directory
//! are left alone. Wherever a file says `@HOST_PREFIX@` the path of the host prefix is put, and a file with that path
//! in it is marked for prefix replacement.
//!
//! Two files come on top:
//! * `share/<name>/inputs.txt` has a line for every package installed in the build and the host prefix: which prefix,
//!   name, version, build, and what the package's own `share/<name>/stamp.txt` says, or `-` if there is none;
//! * `share/<name>/stamp.txt` is a hash over the packaged files, before any prefix is put into them, and `inputs.txt`.
//!
//! So a change in a package changes the bytes of all that are built with it, however far away. With `embed = false`
//! there is no `inputs.txt`: then the package has the same bytes whatever it was built with.
//!
//! The same input gives the same bytes. Dependencies, constraints and run exports in the package are those of the
//! build request, not those of the project model. Archives are `.conda`; a request for another type is
//! answered with an error.
//!
//! # Outputs and variants
//!
//! One output for the project, or those in `outputs`. A binary build or host dependency on any version (`*`) whose
//! name is a key of the variant configuration takes each of the values there, `V` meaning `V.*`; several such keys
//! make all combinations. The build string is `<prefix>h<8 hex digits>_<number>` with variants, `<prefix><number>`
//! without. Pins on subpackages are resolved here, all other specs are passed on. Conditional targets and target
//! configurations are ignored, which a line on standard error says.
//!
//! # Configuration
//!
//! Unknown keys are refused. Paths are relative to the source directory.
//!
//! | key | value | default | |
//! |---|---|---|---|
//! | `files` | globs | `["content/**"]` | what is packaged; `!` in front excludes, the last match wins |
//! | `embed` | boolean | `true` | whether the package depends on what it was built with |
//! | `incremental` | boolean | `false` | `share/<name>/object.txt` says what `inputs.txt` would, but is made only where the work directory has none yet |
//! | `noarch` | boolean, `"generic"`, `"python"` | `false` | whether the subdir is `noarch` |
//! | `globs` | globs | see below | the `inputGlobs` of both results |
//! | `glob_sets` | list of glob sets | none | the `inputGlobSets` of both results |
//! | `outputs` | list of tables | one output | `name` and optionally `version`, `build_number`, `noarch`, `files`, `embed`, `build_dependencies`, `host_dependencies`, `run_dependencies` (name → version or package spec; these replace the model's) |
//! | `ignore_run_exports` | `{ by_name, from_package }` | none | lists of names |
//! | `log` | path | none | a line is appended for each call |
//! | `stderr` | lines | none | written to standard error in each `conda/outputs` and `conda/build_v1` |
//! | `requires_env` | names | none | a build writes to standard error which of these variables are set |
//! | `env_into_package` | names | none | `share/<name>/env.txt` gets the values of these variables |
//! | `slow` | milliseconds | none | how long `conda/outputs` and `conda/build_v1` sleep before they work |
//! | `slow_in` | call | both | `"outputs"` or `"build"`: the one that is slow; also `"negotiate"`, `"initialize"` |
//! | `slow_after` | milliseconds | none | how long a build sleeps when the package lies there, before it answers |
//! | `fail` | kind | none | see below |
//! | `fail_in` | call | by kind | the call that fails: `"negotiate"`, `"initialize"`, `"outputs"`, `"build"` |
//! | `fail_while` | path | always | fails only as long as there is such a file |
//! | `error_code` | integer | by kind | the JSON-RPC code of an error that was asked for |
//! | `flood_bytes` | integer | by kind | how much is a flood |
//! | `remove` | path | none | a file that a build removes after it has read it, if it is there |
//! | `touch` | path | `content/touched.txt` | what `touch_own_globs` writes |
//! | `touch_with` | text | a number, one more than was there | what it writes into it |
//!
//! The default globs are `content/**`, `pixi.toml`, `pyproject.toml` and `recipe.yaml`; none if there are glob sets.
//!
//! | `fail` | in | what happens |
//! |---|---|---|
//! | `error` | `outputs` | error -32000 with data for a report that points into the manifest |
//! | `unknown_error_code` | `outputs` | error -32050 whose data is a mere string |
//! | `hang` | `outputs` | no answer; gives up after ten minutes |
//! | `flood` | `outputs` | 8 MiB on standard error, then works |
//! | `flood_stdout` | `outputs` | one line of 1 GiB without an end on standard output, then exits |
//! | `rubbish` | `outputs` | a line that is not JSON in place of the answer |
//! | `die` | `outputs` | last words on standard error, exit code 3 |
//! | `wrong_shape` | `outputs` | a result nobody asked for |
//! | `not_a_capability` | `negotiate` only | says that it has no `conda/outputs` |
//! | `wrong_package` | `build` only | builds a package of another name and version |
//! | `no_file` | `build` only | names a file that is not there |
//! | `damaged_file` | `build` only | names a file of which half is missing |
//! | `touch_own_globs` | `build` only | writes to `touch` while it builds |
//!
//! The configuration comes with `initialize`, too late for a failure in the negotiation. So each key can be given
//! before: as `KEY=VALUE` on the command line, or in a JSON object in `DOGE_TEST_BACKEND_CONFIG`. A value on the command
//! line is JSON or else a string. What the client sends goes before the command line, and that before the variable.
//!
//! # The log of calls
//!
//! One line each, appended in one write: `start PID`, `negotiate`, `initialize NAME`, `outputs NAME`,
//! `build NAME KEY=VALUE...`. A call is logged before it does anything, whatever becomes of it then; only what cannot be
//! understood, or comes before `initialize`, is not. The lines go to the file in `DOGE_TEST_BACKEND_LOG`, too, if set. What happens before `initialize` names the log is kept until then; if
//! `initialize` never comes it is only in the latter file.

mod archive;
mod build;
mod call_log;
mod configuration;
mod dependencies;
mod failing;
mod files;
mod inputs;
mod json;
mod match_spec;
mod outputs;
mod pin;
mod project;
mod protocol;
mod session;

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Map, Value};

use crate::{call_log::CallLog, session::Session};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr().lock(), "doge-test-backend: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut log = CallLog::new(std::env::var_os("DOGE_TEST_BACKEND_LOG"));
    log.record(&format!("start {}", std::process::id())).map_err(|error| error.to_string())?;
    let mut session = Session::new(defaults()?, log).map_err(|error| error.message)?;
    protocol::serve(io::stdin().lock(), io::stdout().lock(), &mut session).map_err(|error| error.to_string())
}

/// The configuration that was given before there was a client.
fn defaults() -> Result<Map<String, Value>, String> {
    let mut defaults = match std::env::var("DOGE_TEST_BACKEND_CONFIG") {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| format!("DOGE_TEST_BACKEND_CONFIG is no JSON object: {error}"))?,
        Err(_) => Map::new(),
    };
    for argument in std::env::args_os().skip(1) {
        let argument = argument.to_string_lossy();
        let (key, value) = argument.split_once('=').ok_or_else(|| format!("'{argument}' is not KEY=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        defaults.insert(key.to_owned(), value);
    }
    Ok(defaults)
}
