//! What pixi's configuration says about the network and about linking.
//!
//! Read from the same files as pixi does, each later one going before the earlier: the system's, the user's
//! (`XDG_CONFIG_HOME/pixi`, then `PIXI_HOME` or `~/.pixi`), and `.pixi/config.toml` of the workspace. Only what is
//! listed in [`Config`] is used; other keys concern other parts of pixi.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, NamedSource, SourceSpan};
use serde::Deserialize;
use thiserror::Error;
use url::Url;

use crate::conda::NetworkOptions;
use crate::prefix::LinkOptions;

/// What is used of pixi's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// What is asked instead of a URL.
    #[serde(default)]
    pub mirrors: BTreeMap<Url, Vec<Url>>,
    /// A file with credentials that goes before all others.
    pub authentication_override_file: Option<PathBuf>,
    /// Certificates are not checked.
    pub tls_no_verify: Option<bool>,
    /// `insecure` if scripts of packages may be run.
    pub run_post_link_scripts: Option<String>,
    /// Whether symbolic links may be used.
    pub allow_symbolic_links: Option<bool>,
    /// Whether hard links may be used.
    pub allow_hard_links: Option<bool>,
    /// Whether files may share blocks.
    pub allow_ref_links: Option<bool>,
    /// How much is done at once.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// How packages are built.
    #[serde(default)]
    pub build: Build,
}

/// How packages are built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Build {
    /// Variables that build backends get to see besides the usual ones. What is built depends on their values.
    pub pass_env: Option<Vec<String>>,
}

/// How much is done at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Concurrency {
    /// Solves.
    pub solves: Option<usize>,
    /// Downloads.
    pub downloads: Option<usize>,
    /// Builds.
    pub builds: Option<usize>,
}

/// How many processors a build is taken to use.
const PROCESSORS_A_BUILD: usize = 2;

/// Why the configuration cannot be used.
#[derive(Clone, Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is there and cannot be read.
    #[error("the configuration `{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// It says something unusable.
    #[error("the configuration `{}` cannot be used: {message}", text.name())]
    #[diagnostic(help("the keys and their values are those of pixi's `config.toml`"))]
    Malformed {
        /// What is wrong.
        message: String,
        /// What it says.
        #[source_code]
        text: NamedSource<Arc<str>>,
        /// Where it is wrong.
        #[label("here")]
        place: Option<SourceSpan>,
    },
}

impl Config {
    /// Reads the files of the system, the user and the workspace. Those that are not there say nothing.
    ///
    /// # Errors
    ///
    /// If one cannot be read or understood.
    pub fn load(workspace: &Path) -> Result<Self, ConfigError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = std::env::home_dir();
        let xdg = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let pixi = variable("PIXI_HOME").or_else(|| home.as_ref().map(|home| home.join(".pixi")));
        let files = [
            Some(PathBuf::from("/etc/pixi/config.toml")),
            xdg.map(|directory| directory.join("pixi").join("config.toml")),
            pixi.map(|directory| directory.join("config.toml")),
            Some(workspace.join(".pixi").join("config.toml")),
        ];
        let mut config = Self::default();
        for path in files.into_iter().flatten() {
            match std::fs::read_to_string(&path) {
                Ok(text) => config = config.overridden_by(Self::parse(&text, &path)?),
                Err(error)
                    if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(ConfigError::Read { path, source: Arc::new(source) }),
            }
        }
        Ok(config)
    }

    /// Reads what one file says.
    ///
    /// # Errors
    ///
    /// If it cannot be understood.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::Malformed {
            message: error.message().trim().to_owned(),
            text: NamedSource::new(path.display().to_string(), text.into()),
            place: error.span().map(SourceSpan::from),
        })
    }

    fn overridden_by(self, other: Self) -> Self {
        let mut mirrors = self.mirrors;
        mirrors.extend(other.mirrors);
        Self {
            mirrors,
            authentication_override_file: other.authentication_override_file.or(self.authentication_override_file),
            tls_no_verify: other.tls_no_verify.or(self.tls_no_verify),
            run_post_link_scripts: other.run_post_link_scripts.or(self.run_post_link_scripts),
            allow_symbolic_links: other.allow_symbolic_links.or(self.allow_symbolic_links),
            allow_hard_links: other.allow_hard_links.or(self.allow_hard_links),
            allow_ref_links: other.allow_ref_links.or(self.allow_ref_links),
            concurrency: Concurrency {
                solves: other.concurrency.solves.or(self.concurrency.solves),
                downloads: other.concurrency.downloads.or(self.concurrency.downloads),
                builds: other.concurrency.builds.or(self.concurrency.builds),
            },
            build: Build { pass_env: other.build.pass_env.or(self.build.pass_env) },
        }
    }

    /// The variables that build backends get to see besides the usual ones, sorted.
    pub fn pass_env(&self) -> Vec<String> {
        let mut names = self.build.pass_env.clone().unwrap_or_default();
        names.sort();
        names.dedup();
        names
    }

    /// How the network is used.
    pub fn network(&self, offline: bool) -> NetworkOptions {
        NetworkOptions {
            offline,
            mirrors: self.mirrors.clone(),
            authentication_file: self.authentication_override_file.clone(),
            insecure: self.tls_no_verify.unwrap_or(false),
        }
    }

    /// How files come into prefixes.
    pub fn link_options(&self) -> LinkOptions {
        LinkOptions {
            symbolic: self.allow_symbolic_links,
            hard: self.allow_hard_links,
            reference: self.allow_ref_links,
        }
    }

    /// Whether scripts of packages are run.
    pub fn link_scripts(&self) -> bool {
        self.run_post_link_scripts.as_deref() == Some("insecure")
    }

    /// How much is done at once. A build may use two processors, so there are half as many builds as processors, unless
    /// something else is said.
    pub fn limits(&self) -> doge::Limits {
        let usual = doge::Limits::default();
        let builds = usual.cpu.map_or(1, |processors| (processors / PROCESSORS_A_BUILD).max(1));
        doge::Limits {
            solve: self.concurrency.solves.or(usual.solve),
            url: self.concurrency.downloads.or(usual.url),
            build: self.concurrency.builds.or(Some(builds)),
            ..usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_file_goes_before_an_earlier_one_and_unknown_keys_are_passed_over() {
        let parse = |text| Config::parse(text, Path::new("config.toml")).expect("it can be read");
        let first = parse(
            "run-post-link-scripts = 'insecure'\nallow-hard-links = false\ndetached-environments = true\n\
             [mirrors]\n'https://a.example/' = ['https://b.example/']\n[concurrency]\nsolves = 3\n",
        );
        let second = parse("run-post-link-scripts = 'false'\n[concurrency]\ndownloads = 7\n");
        let both = first.overridden_by(second);
        assert!(!both.link_scripts());
        assert_eq!(both.link_options().hard, Some(false));
        assert_eq!(both.mirrors.len(), 1);
        assert_eq!((both.limits().solve, both.limits().url), (Some(3), Some(7)));
    }

    #[test]
    fn what_cannot_be_used_is_shown_with_its_place() {
        let error = Config::parse("tls-no-verify = 'perhaps'", Path::new("config.toml")).expect_err("no boolean");
        let ConfigError::Malformed { place, .. } = error else { panic!("{error}") };
        assert_eq!(place.map(|place| place.offset()), Some(16));
    }
}
