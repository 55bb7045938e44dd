//! Build backends: programs that know how to make packages out of sources.
//!
//! Which backend builds a source is read from the manifests there ([`DiscoverBackendSpec`]). It comes from a package
//! with an environment of its own, chosen once and kept ([`InstantiateToolEnvironmentSpec`]), or is a program of the
//! system, or a part of this one ([`MemoryBackend`]). It is asked what can be built ([`BuildBackendMetadataSpec`])
//! and, elsewhere, to build it; what it says to have read becomes part of the trace. A running backend is a resource
//! and never a value: who asks for the same package shares it, and nothing depends on whether it ran already.

mod discover;
mod error;
mod executable;
mod memory;
mod metadata;
mod pool;
mod process;
mod protocol;
mod tool;
mod variables;

pub use discover::{CheckoutManifestsSpec, DiscoverBackendSpec, DiscoverError, DiscoveredBackend};
pub use error::{AtSource, BackendError, Complaint, LastOutput};
pub use executable::{Executable, ExecutableSpec, ExecutableStamp};
pub use memory::{MemoryBackend, MemoryBackends, MemoryQuestion};
pub use metadata::{
    BackendInstance, BackendMetadata, BackendMetadataError, BackendProgram, BuildBackendMetadataSpec, CallError,
    CallOutputsSpec, OutputList, ReadyPlaceSpec,
};
pub(crate) use metadata::{QUESTIONS, Ready, make};
pub(crate) use pool::Question;
pub use pool::{Backends, PASSED_ON};
pub use process::KEPT_LINES;
pub use protocol::*;
pub use tool::{
    ChosenAnew, ChosenPackages, ChosenToolSpec, InstallToolError, InstallToolSpec, InstantiateToolEnvironmentSpec,
    KeepToolSpec, ReadyToolError, ToolEnvironment, ToolError, ToolNeeds, ToolPrefixes,
};
pub use variables::{SecretKey, VariableValue, Variables, VariablesSpec};
