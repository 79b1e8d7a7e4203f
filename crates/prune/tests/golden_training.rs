//! A small network against PyTorch: forward, gradients, one and ten steps of SGD with momentum.
//!
//! The values come from `tools/make-golden-training`; run it again, and raise `VERSION` there and here, when the network changes.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use sentei_graph::Graph;
use sentei_prune::{Mode, Net, cross_entropy};

const VERSION: f32 = 1.0;
const NET: &str = "x = input f32[7,3,13,11]
    c1 = Conv(x, c1.w[6,3,3,3], c1.b[6]) stride=2,1 pad=1
    n1 = BatchNorm(c1, n1.g[6], n1.s[6], n1.m[6], n1.v[6]) eps=1e-5 momentum=0.9
    r1 = Relu(n1)
    h = MaxPool(r1) kernel=3 stride=2 pad=1
    dw = Conv(h, dw.w[6,1,3,3]) pad=1 groups=6
    pw = Conv(dw, pw.w[6,6,1,1])
    sum = Add(h, pw)
    c2 = Conv(sum, c2.w[8,3,3,2]) pad=0,1,1,0 groups=2 dilation=1,2
    n2 = BatchNorm(c2, n2.g[8], n2.s[8], n2.m[8], n2.v[8]) eps=1e-5 momentum=0.9
    r2 = Clip(n2) min=0 max=6
    p = GlobalAveragePool(r2)
    f = Flatten(p) axis=1
    y = Gemm(f, fc.w[4,8], fc.b[4])";
const LEARNING_RATE: f64 = 0.05;
const MOMENTUM: f64 = 0.9;
const WEIGHT_DECAY: f64 = 0.01;
const SMOOTHING: f32 = 0.1;
const CLASS_WEIGHTS: [f32; 4] = [1.0, 2.0, 0.5, 1.5];

/// Rounding of one pass: sums of some thousand terms.
const ONE_PASS: f32 = 1000.0 * f32::EPSILON;
/// Ten steps, each of which carries on the rounding of those before.
const TEN_STEPS: f32 = 10.0 * ONE_PASS;

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn load() -> Golden {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let path = root.join("tests/golden/training/small_net.safetensors");
        let golden = Golden(candle_core::safetensors::load(&path, &Device::Cpu).unwrap());
        let version = golden.get("version").to_vec1::<f32>().unwrap();
        assert_eq!(version, [VERSION], "regenerate {} with tools/make-golden-training", path.display());
        golden
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no `{name}` in the golden file; see tools/make-golden-training"))
    }

    fn check(&self, name: &str, found: &Tensor, tolerance: f32) {
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = self.get(name);
        assert_eq!(found.dims(), expected.dims(), "{name}");
        let expected = values(expected);
        let bound = tolerance * expected.iter().fold(0.1f32, |a, v| a.max(v.abs()));
        for (i, (a, b)) in values(found).iter().zip(&expected).enumerate() {
            assert!((a - b).abs() <= bound, "{name}, element {i}: {a} is not {b} within {bound}");
        }
    }

    fn check_net(&self, prefix: &str, net: &Net, tolerance: f32) {
        let params = net.vars().iter().map(|p| (p.name.as_str(), p.var.as_tensor()));
        params.chain(net.buffers()).for_each(|(name, value)| self.check(&format!("{prefix}/{name}"), value, tolerance));
    }
}

#[test]
fn a_small_network_trains_as_in_pytorch() {
    let golden = Golden::load();
    let mut net = Net::new(&Graph::parse(NET).unwrap(), &Device::Cpu).unwrap();
    let names: Vec<String> = net.vars().iter().map(|p| p.name.clone()).collect();
    for name in &names {
        net.set_var(name, golden.get(&format!("start/{name}"))).unwrap();
    }
    for name in net.buffers().map(|(n, _)| n.to_string()).collect::<Vec<_>>() {
        net.set_buffer(&name, golden.get(&format!("start/{name}"))).unwrap();
    }
    let labels = golden.get("labels").to_vec2::<f32>().unwrap();
    let mut speeds: HashMap<&str, Tensor> = HashMap::new();
    let mut losses = Vec::new();
    for step in 0..10 {
        let x = golden.get("x").get(step % 2).unwrap();
        let labels: Vec<u32> = labels[step % 2].iter().map(|l| *l as u32).collect();
        let logits = net.forward(&x, Mode::Train { seed: step as u64 }).unwrap();
        let loss = cross_entropy(&logits, &labels, SMOOTHING, Some(&CLASS_WEIGHTS)).unwrap();
        losses.push(loss.to_scalar::<f32>().unwrap());
        let gradients = loss.backward().unwrap();
        if step == 0 {
            golden.check("logits", &logits, ONE_PASS);
        }
        for name in &names {
            let var = net.var(name).unwrap().var.clone();
            let gradient = gradients.get(&var).unwrap();
            if step == 0 {
                golden.check(&format!("gradient/{name}"), gradient, ONE_PASS);
            }
            let gradient = (gradient + var.affine(WEIGHT_DECAY, 0.0).unwrap()).unwrap();
            let speed = match speeds.get(name.as_str()) {
                Some(speed) => (speed.affine(MOMENTUM, 0.0).unwrap() + gradient).unwrap().detach(),
                None => gradient.detach(),
            };
            net.set_var(name, &(var.as_tensor() - speed.affine(LEARNING_RATE, 0.0).unwrap()).unwrap()).unwrap();
            speeds.insert(name, speed);
        }
        match step {
            0 => golden.check_net("after1", &net, ONE_PASS),
            9 => golden.check_net("after10", &net, TEN_STEPS),
            _ => {}
        }
    }
    golden.check("losses", &Tensor::new(losses, &Device::Cpu).unwrap(), TEN_STEPS);
    let evaluated = net.forward(&golden.get("x").get(0).unwrap(), Mode::Eval).unwrap();
    golden.check("evaluated", &evaluated, TEN_STEPS);
}
