//! What the packages of a workspace are built for.

use doge::{AnyError, Db, Failure, Halt};
use serde::{Deserialize, Serialize};

use crate::build::{BackendOverrides, BuildContext, BuildPlatform, Context};
use crate::conda::{MachineError, MachineSpec};
use crate::environment::manifest::WorkspaceNeeds;
use crate::files::FilesError;
use crate::workspace::{SolveDescription, SolveUnit};

/// How packages are built, as far as that is the same for all environments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BuildOptions {
    /// Backends that are taken from somewhere else.
    pub overrides: BackendOverrides,
    /// Variables that backends get to see besides the usual ones, sorted.
    pub pass_env: Vec<String>,
}

/// What the packages of each unit are built for; nothing for those of which none has to be.
pub(crate) fn contexts<E>(
    db: &Db<'_>,
    needs: &WorkspaceNeeds,
    is_built: &[bool],
    options: &BuildOptions,
    offline: bool,
) -> Result<Vec<Option<Context>>, Halt<E>>
where
    E: From<Failure<MachineError>> + From<Failure<FilesError>> + From<Failure<AnyError>>,
{
    let machine = db.observe(&MachineSpec)?;
    let files = match BuildContext::look_at_variant_files(needs.variant_files.iter()) {
        None => Vec::new(),
        Some(look) => {
            let found = db.observe(&look)?;
            let content = |path: &String| found.files.get(path).map(|file| file.content);
            needs.variant_files.iter().map(|path| (path.clone(), content(path))).collect()
        }
    };
    let mut contexts = Vec::new();
    for (place, unit) in needs.units.iter().enumerate() {
        if !is_built[place] {
            contexts.push(None);
            continue;
        }
        let of = |needs: &SolveDescription| BuildPlatform {
            subdir: needs.subdir,
            virtual_packages: needs.virtual_packages.clone(),
        };
        let host = of(&unit.needs);
        let variants_of = |place: usize| needs.variants.get(place).cloned().unwrap_or_default();
        // What the workspace says of this platform counts on every machine; only of one it does not know is asked
        // what it is.
        let own = |unit: &SolveUnit| Some(unit.needs.subdir) == machine.subdir;
        let (build, tool_variants) = match machine.subdir {
            Some(subdir) if subdir != host.subdir => match needs.units.iter().position(own) {
                Some(own) => (of(&needs.units[own].needs), Some(variants_of(own))),
                None => (BuildPlatform { subdir, virtual_packages: machine.virtual_packages.clone() }, None),
            },
            _ => (host.clone(), None),
        };
        let variants = variants_of(place);
        contexts.push(Some(db.intern(BuildContext {
            channels: unit.needs.channels.clone(),
            channel_priority: unit.needs.channel_priority,
            exclude_newer: unit.needs.exclude_newer.clone(),
            host,
            tool: build.clone(),
            build,
            tool_variants: tool_variants.filter(|of_tool| *of_tool != variants),
            variants,
            variant_files: files.clone(),
            overrides: options.overrides.clone(),
            pass_env: options.pass_env.clone(),
            offline,
        })?));
    }
    Ok(contexts)
}
