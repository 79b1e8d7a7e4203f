use std::sync::Arc;
use std::time::Instant;
use sentei_data::*;
use sentei_prune::config::*;
use sentei_prune::train::*;
use sentei_prune::optim::Optimizer;
use sentei_prune::*;
#[test]
fn tmp_speed() {
    for (model, batch) in [("inspect", 64usize), ("lenet300", 128)] {
        let data = Arc::new(inspection(&InspectionSpec { train: 1024, val: 128, test: 6, ..InspectionSpec::default() }, 1));
        let spec = sentei_models::Spec { channels: 1, height: 64, width: 64, classes: data.classes.len(), seed: 1 };
        let graph = sentei_models::build(model, &spec).unwrap();
        let normalise = Normalise::of(&data, Split::Train);
        let stop = Stop::never();
        let mut events: Vec<sentei_report::events::Event> = Vec::new();
        let dir = tempfile::tempdir().unwrap();
        let config = TrainConfig { epochs: 3, batch_size: batch, learning_rate: 0.01, ..TrainConfig::default() };
        let mut net = Net::new(&graph, &Device::Cpu).unwrap();
        let params: usize = net.vars().iter().map(|p| p.var.elem_count()).sum();
        // raw
        let indices = data.indices(Split::Train);
        let b = batches(&data, &indices, batch, Order::Sequential, None, &normalise).next().unwrap();
        let shape = if model == "inspect" { vec![batch, 1, 64, 64] } else { vec![batch, 1, 64, 64] };
        let x = candle_core::Tensor::from_vec(b.images.clone(), shape, &Device::Cpu).unwrap();
        let steps = 1024 / batch;
        let layers = prunable_layers(&graph, PrunableSet::ALL);
        let mut opt = Optimizer::new(&config, net.vars());
        opt.set_masks(net.vars(), &Masks::dense(&layers)).unwrap();
        let (mut tf, mut to) = (0.0, 0.0);
        for i in 0..steps {
            let t = Instant::now();
            let logits = net.forward(&x, Mode::Train { seed: i as u64 }).unwrap();
            let g = cross_entropy(&logits, &b.labels, 0.0, None).unwrap().backward().unwrap();
            tf += t.elapsed().as_secs_f64();
            let t = Instant::now();
            opt.step(net.vars(), &g, 0.001).unwrap();
            to += t.elapsed().as_secs_f64();
        }
        println!("{model}: params {params} raw fwd+bwd {:.2} ms/step, optimiser {:.3} ms/step", tf / steps as f64 * 1e3, to / steps as f64 * 1e3);
        let t = Instant::now();
        for b in batches(&data, &indices, batch, Order::Shuffled{seed:1,epoch:0}, Some(&Augment{flip_horizontal:true,shift:2,..Default::default()}), &normalise) { std::hint::black_box(b); }
        println!("  loader alone {:.2} ms/step", t.elapsed().as_secs_f64() / steps as f64 * 1e3);
        for check in [false, true] {
            let checkpoint = check.then(|| Checkpointing { path: dir.path().join("c"), resume: false });
            let mut run = Run { data: &data, normalise: &normalise, events: &mut events, stop: &stop, checkpoint };
            let mut net = Net::new(&graph, &Device::Cpu).unwrap();
            let t = Instant::now();
            let plan = Plan { phase: "t", config: &config, masks: &Masks::dense(&layers), frozen: &[], dropout: &[], policy: None };
            let trained = train(&mut net, plan, &mut run).unwrap();
            println!("  train checkpoint={check}: {:.2} ms/step all in; rows {:?}", t.elapsed().as_secs_f64() / (3 * steps) as f64 * 1e3, trained.rows.iter().map(|r| (r.seconds, r.train_loss)).collect::<Vec<_>>());
        }
    }
}
