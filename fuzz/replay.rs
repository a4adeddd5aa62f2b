//! Runs checks over the files of folders: `replay TARGET FOLDER…`. With the compiler's coverage instrumentation this
//! shows which lines of the parsers the inputs of a fuzzer reach (`make fuzz-coverage`).

use std::{env, error::Error, fs};

use vivadrop_fuzz::CHECKS;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let target = arguments.next().ok_or("usage: replay TARGET FOLDER…")?;
    let (_, check) = CHECKS.iter().find(|(name, _)| *name == target).ok_or("there is no such target")?;
    let mut inputs = 0;
    for folder in arguments {
        for entry in fs::read_dir(folder)? {
            check(&fs::read(entry?.path())?);
            inputs += 1;
        }
    }
    println!("{target}: {inputs} inputs");
    Ok(())
}
