//! A backend for quick tests: a package is the files that lie in `content`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::backend::{MemoryBackend, MemoryQuestion};
use crate::testing::PackageBuilder;

/// Packages what lies in `content` of a source, under the name and the version that its manifest gives it.
#[derive(Clone, Debug, Default)]
pub struct Passthrough {
    asked: Arc<[AtomicUsize; 2]>,
}

impl Passthrough {
    /// How often it was asked what there is, and how often to build.
    pub fn asked(&self) -> (usize, usize) {
        (self.asked[0].load(Ordering::Relaxed), self.asked[1].load(Ordering::Relaxed))
    }
}

impl MemoryBackend for Passthrough {
    fn identity(&self) -> String {
        "passthrough 1".to_owned()
    }

    fn answer(&self, question: &MemoryQuestion<'_>) -> Result<Value, String> {
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let globs = json!(["content/**"]);
        if question.method == "conda/outputs" {
            self.asked[0].fetch_add(1, Ordering::Relaxed);
            let model = &question.initialize["projectModel"];
            let (name, version) = (text(model, "name"), text(model, "version"));
            if name.is_empty() {
                return Err("the package has no name".to_owned());
            }
            let metadata =
                json!({ "name": name, "version": version, "build": "0", "subdir": "noarch", "noarch": "generic" });
            return Ok(json!({ "outputs": [{ "metadata": metadata }], "inputGlobs": globs }));
        }
        self.asked[1].fetch_add(1, Ordering::Relaxed);
        let (output, source) = (&question.params["output"], text(question.initialize, "sourceDirectory"));
        (question.log)(&format!("packaging {source}"));
        let (name, version) = (text(output, "name"), text(output, "version"));
        let mut package = PackageBuilder::new(&name, &version).build("0", 0);
        let content = Path::new(&source).join("content");
        for path in files(&content).map_err(|error| error.to_string())? {
            let inside = path.strip_prefix(&content).unwrap_or(&path).to_string_lossy().into_owned();
            package = package.file(inside, std::fs::read(&path).map_err(|error| error.to_string())?);
        }
        let directory = PathBuf::from(text(question.params, "outputDirectory"));
        package.write(&directory).map_err(|error| error.to_string())?;
        let file = directory.join(package.file_name());
        Ok(json!({
            "output_file": file, "input_globs": globs,
            "name": name, "version": version, "build": "0", "subdir": "noarch",
        }))
    }
}

fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(self::files(&path)?) } else { files.push(path) }
    }
    files.sort();
    Ok(files)
}
