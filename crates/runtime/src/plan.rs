//! The decisions of one load, to be kept beside the model and used by the next load on the same machine.

use serde::{Deserialize, Serialize};

/// Rises whenever kernels change so that old timings mean nothing.
pub const KERNEL_VERSION: u32 = 5;

/// Which kernel runs each layer of one model on one machine, on any number of threads: those who follow the same plan compute the
/// same bits.
///
/// The file that it came from says for which model; here every layer has to fit by name, shape and non-zeros.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where it was measured.
    pub machine: Machine,
    /// [`KERNEL_VERSION`] of the measuring program.
    pub kernels: u32,
    /// Layers with weights, in the order they run.
    pub layers: Vec<Planned>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Name of the node in the ONNX file.
    pub name: String,
    /// Shape of the weight.
    pub shape: Vec<usize>,
    /// Non-zero weights.
    pub nnz: u64,
    /// The kernel.
    pub choice: Choice,
    /// Why, for example `sparse 3.1x`.
    pub reason: String,
}

/// How one layer is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The only way there is.
    Only,
    /// Convolution that stores non-zeros.
    SparseConv(Tile),
    /// Convolution that stores all weights.
    DenseConv(Tile),
    /// Convolution of maps as small as a vector, non-zeros.
    SparseTiny,
    /// Convolution of maps as small as a vector, all weights.
    DenseTiny,
    /// 3x3 convolution by transforms of tiles of so many pixels each way; the tile's rows are rows of those.
    Winograd(usize, Tile),
    /// One filter per channel, all weights.
    Depthwise,
    /// Fully connected, non-zeros.
    SparseLinear,
    /// Fully connected, all weights.
    DenseLinear,
    /// Convolution in bytes; only [`crate::KernelChoice::Int8`] decides so, and keeps it in no plan.
    Int8,
}

/// Parameters of the convolution kernels, see `sentei_kernels::conv::ConvChoice` and `sentei_kernels::dense::DenseChoice`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tile {
    /// Outputs that share an entry, or the loads of one.
    pub group: usize,
    /// Vectors of pixels.
    pub vectors: usize,
    /// Columns of one row of the copies; 0 for one padded copy, and for dense kernels, which have no other.
    pub pitch: usize,
    /// Output rows per filling of the copies.
    pub piece_rows: usize,
    /// Input channels per block.
    pub block_channels: usize,
}

impl Choice {
    /// Whether only non-zeros are stored.
    pub fn is_sparse(self) -> bool {
        matches!(self, Self::SparseConv(_) | Self::SparseTiny | Self::SparseLinear)
    }
}

/// What timings depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// As the system calls the processor.
    pub processor: String,
    /// Instruction set of the kernels.
    pub instructions: String,
    /// Size of every cache of the first core, as the system says it.
    pub caches: Vec<String>,
}

impl Machine {
    /// The one that this program runs on; fields that the system does not tell are empty.
    pub fn here() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let names = ["model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part"];
        let processor = names.into_iter().filter_map(field).collect::<Vec<_>>().join(" / ");
        let caches = (0..8).map_while(|index| {
            let path = |of: &str| format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{of}");
            let read = |of: &str| std::fs::read_to_string(path(of)).ok().map(|text| text.trim().to_owned());
            Some(format!("L{} {} {}", read("level")?, read("type")?, read("size")?))
        });
        let instructions = sentei_kernels::Isa::best().name().to_owned();
        Self { processor, instructions, caches: caches.collect() }
    }
}

impl Plan {
    /// A plan of this machine and program.
    pub(crate) fn here(layers: Vec<Planned>) -> Self {
        Self { machine: Machine::here(), kernels: KERNEL_VERSION, layers }
    }

    /// Why the plan says nothing about a session on `machine`, if so.
    pub(crate) fn stale(&self, machine: &Machine) -> Option<String> {
        if self.kernels != KERNEL_VERSION {
            return Some(format!("it is of kernels {}, these are {KERNEL_VERSION}", self.kernels));
        }
        let told =
            |machine: &Machine| [machine.processor.clone(), machine.instructions.clone(), machine.caches.join(", ")];
        let mut differences = told(&self.machine).into_iter().zip(told(machine)).filter(|(there, here)| there != here);
        differences.next().map(|(there, here)| format!("it was measured on {there}, this is {here}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_stale_elsewhere_and_says_why() {
        let plan = Plan::here(Vec::new());
        assert_eq!(plan.stale(&Machine::here()), None);
        let here = Machine { processor: "loom".into(), instructions: "avx2".into(), caches: vec!["L1".into()] };
        let moved = |machine: Machine| Plan { machine, ..plan.clone() }.stale(&here);
        let why = moved(Machine { processor: "abacus".into(), ..here.clone() });
        assert_eq!(why.unwrap(), "it was measured on abacus, this is loom");
        let why = moved(Machine { instructions: "scalar".into(), ..here.clone() });
        assert_eq!(why.unwrap(), "it was measured on scalar, this is avx2");
        assert_eq!(moved(here.clone()), None);
        let old = Plan { kernels: 0, ..plan }.stale(&Machine::here());
        assert_eq!(old.unwrap(), format!("it is of kernels 0, these are {KERNEL_VERSION}"));
    }
}
