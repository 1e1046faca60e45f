//! Heredocs: the text goes behind `RUN`, `COPY` and `ONBUILD RUN`. What is found in a heredoc stands in the text.

#![no_main]

use dockerfile::{Instruction, Script};

libfuzzer_sys::fuzz_target!(|text: &str| {
    for head in ["FROM a\nRUN ", "FROM a\nCOPY ", "# escape=`\nFROM a\nONBUILD RUN "] {
        let whole = format!("{head}{text}");
        for s in layercake_fuzz::examine(&whole).file.statements {
            let heredocs = match &s.instruction {
                Instruction::Run(run) => {
                    if let Script::File { content, .. } = run.script() {
                        assert!(content.starts_with("#!"));
                    }
                    &run.heredocs
                }
                Instruction::Copy(copy) => &copy.heredocs,
                _ => continue,
            };
            let written = &whole[s.span.start..s.span.end];
            for h in heredocs.iter().filter(|h| !h.chomp) {
                assert!(written.contains(&h.content), "{h:?}");
            }
        }
    }
});
