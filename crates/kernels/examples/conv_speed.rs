use sentei_kernels::conv::*;
use sentei_kernels::planes::Values;
use sentei_kernels::*;
use std::time::{Duration, Instant};
fn best_of(mut run: impl FnMut()) -> Duration {
    let b = Instant::now();
    let mut best = Duration::MAX;
    while b.elapsed() < Duration::from_millis(60) {
        let s = Instant::now();
        run();
        best = best.min(s.elapsed());
    }
    best
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let only: Option<usize> = args.get(1).and_then(|a| a.parse().ok());
    let same = |c: usize, s: usize, o: usize, k: usize, st: usize| ConvGeometry {
        pads: [k / 2; 4],
        stride: [st; 2],
        ..ConvGeometry::new(c, [s; 2], o, [k; 2])
    };
    let layers = [
        same(64, 56, 64, 3, 1),
        same(128, 28, 128, 3, 1),
        same(256, 14, 256, 3, 1),
        same(512, 7, 512, 3, 1),
        same(128, 56, 128, 3, 2),
        same(64, 56, 256, 1, 1),
        same(256, 56, 64, 1, 1),
        same(512, 28, 128, 1, 1),
        same(1024, 14, 256, 1, 1),
        same(2048, 7, 512, 1, 1),
        same(512, 7, 2048, 1, 1),
        same(16, 32, 16, 3, 1),
        same(32, 16, 32, 3, 1),
        same(64, 8, 64, 3, 1),
        same(3, 224, 64, 7, 2),
    ];
    let mut seed = 1u64;
    let mut r = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f64 / (1u64 << 24) as f64
    };
    for (li, g) in layers.iter().enumerate() {
        if only.is_some_and(|o| o != li) {
            continue;
        }
        let w = g.weights().unwrap();
        let input = Map::aligned(g.in_channels, g.in_height, g.in_width);
        let output = Map::aligned(g.out_channels, g.out_height(), g.out_width());
        let positions: Vec<u32> = (0..w as u32).filter(|_| r() < 0.1).collect();
        println!(
            "{}x{}x{} -> {} k{} s{}",
            g.in_channels, g.in_height, g.in_width, g.out_channels, g.kernel[0], g.stride[0]
        );
        let xv = vec![0.5f32; input.len() + 64];
        let x = &xv[xv.as_ptr().align_offset(64)..];
        let mut yv = vec![0.0f32; output.len() + 64];
        let yo = yv.as_ptr().align_offset(64);
        let y = &mut yv[yo..];
        let nz = positions.iter().map(|p| (*p, 0.5f32));
        let old = SparseConv::prepare(g.clone(), nz, None).unwrap();
        let (mut oy, mut os) = (vec![0.0; g.out_len()], vec![0.0; old.scratch_len()]);
        let t = best_of(|| old.run(&x[..g.in_len()], &mut oy, None, Activation::Relu, &mut os));
        println!(
            "   old sparse                         {:8.1} us {:6.1} GF/s",
            t.as_secs_f64() * 1e6,
            2e-9 * old.macs() as f64 / t.as_secs_f64()
        );
        let isas: Vec<Isa> = if args.len() > 2 { vec![Isa::Avx512] } else { vec![Isa::Avx512, Isa::Avx2] };
        for isa in isas {
            let mut show = |name: &str, pos: Option<&[u32]>, values: &Values, scales: Option<&[f32]>, c: ConvChoice| {
                let conv = Conv::prepare(
                    isa,
                    g,
                    input,
                    output,
                    ConvWeights { positions: pos, values, scales, bias: None },
                    Activation::Relu,
                    c,
                )
                .unwrap();
                let mut s = vec![0.0; conv.scratch_len()];
                let t = best_of(|| conv.run(x, &mut *y, None, &mut s));
                println!(
                    "   {name:8} {:7} v{:2} p{:3} r{:3} b{:4}  {:8.1} us {:6.1} GF/s  units {}",
                    isa.name(),
                    c.vectors,
                    c.pitch,
                    c.piece_rows,
                    c.block_channels,
                    t.as_secs_f64() * 1e6,
                    2e-9 * conv.macs() as f64 / t.as_secs_f64(),
                    conv.units()
                );
            };
            let v = Values::F32(vec![0.5; positions.len()]);
            let vecs: Vec<usize> =
                if args.len() > 2 { args[2..].iter().map(|a| a.parse().unwrap()).collect() } else { vec![4, 8, 14] };
            for vec in vecs {
                let c = ConvChoice::with_vectors(isa, g, input, positions.len(), 1, vec);
                show("sparse", Some(&positions), &v, None, c);
                if args.len() <= 2 && vec == 8 {
                    show("nopblock", Some(&positions), &v, None, ConvChoice { block_channels: 9999, ..c });
                    show(
                        "blk/2",
                        Some(&positions),
                        &v,
                        None,
                        ConvChoice { block_channels: c.block_channels.div_ceil(2), ..c },
                    );
                }
            }
            let b = Values::I8(vec![3; positions.len()]);
            let sc = vec![0.1; g.out_channels];
            if args.len() <= 2 {
                show("i8", Some(&positions), &b, Some(&sc), ConvChoice::guess(isa, g, input, positions.len(), 1));
            }
            if args.len() > 2 {
                continue;
            }
            let d = Values::F32(vec![0.5; w]);
            if args.len() <= 2 {
                for group in [2, 4, 8] {
                    show(&format!("dense{group}"), None, &d, None, ConvChoice::guess(isa, g, input, w, group));
                }
            }
        }
    }
}
