//! What the guide in `resources/guide/` names is there: files, tests, items. Reads the source tree.

mod common;

use std::{collections::BTreeSet, fs, path::Path};

use common::root;

/// A page of the guide.
fn page(name: &str) -> String {
    fs::read_to_string(root().join("resources/guide").join(name)).unwrap()
}

/// What stands between backticks outside of fenced blocks, whole.
fn quoted(text: &str) -> Vec<String> {
    let mut fenced = false;
    let prose = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    let prose: Vec<_> = prose.collect();
    let prose = prose.join("\n");
    prose.split('`').skip(1).step_by(2).map(|it| it.replace('\n', " ")).collect()
}

/// Whether this is meant as a path of the source tree.
fn is_path(word: &str) -> bool {
    let tops = ["src/", "tests/", "resources/", "configs/", "benches/", "examples/", "Cargo.toml"];
    tops.iter().any(|top| word.starts_with(top)) && !word.contains([' ', '*', ':', '$', '…'])
}

/// Fails with all that is missing, one a line.
#[track_caller]
fn none_missing(what: &str, missing: BTreeSet<String>) {
    let missing: Vec<_> = missing.into_iter().collect();
    assert!(missing.is_empty(), "{what} that are not there:\n  {}", missing.join("\n  "));
}

#[test]
fn files_that_the_guide_names_are_there() {
    let mut missing = BTreeSet::new();
    for entry in fs::read_dir(root().join("resources/guide")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let words = quoted(&page(&name));
        // What is yet to be written is called so.
        for path in words.iter().filter(|it| is_path(it) && !it.contains("newarch")) {
            if !root().join(path).exists() {
                missing.insert(format!("{name}: {path}"));
            }
        }
    }
    none_missing("files", missing);
}

#[test]
fn links_of_the_guide_and_the_readme_lead_somewhere() {
    let mut missing = BTreeSet::new();
    let guide = fs::read_dir(root().join("resources/guide")).unwrap();
    let pages = guide.map(|entry| entry.unwrap().path()).chain([root().join("README.md")]);
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            let target = page.parent().unwrap_or(Path::new(".")).join(file);
            if !file.contains("://") && !target.exists() {
                missing.insert(format!("{}: {link}", page.display()));
            }
        }
    }
    none_missing("links", missing);
}

/// The sections of the five documents about axvm, those that their contents alone name included.
const SECTIONS: [(&str, &[&str]); 5] = [
    (
        "vCPU Execution Problems",
        &[
            "Introduction",
            "Project Structure",
            "Core Components",
            "Architecture Overview",
            "Detailed Component Analysis",
            "vCPU Implementation Analysis",
            "VM Execution Flow Analysis",
            "Exit Reason Handling Analysis",
            "Dependency Analysis",
            "Performance Considerations",
            "Troubleshooting Guide",
            "Infinite exit loops",
            "Failed vCPU binding",
            "Unexpected termination",
            "Timer interrupt issues",
            "Inter-processor communication",
            "Conclusion",
        ],
    ),
    (
        "vCPU Execution Model",
        &[
            "Introduction",
            "Execution Loop Structure",
            "Context Switching Mechanics",
            "Architecture-Specific Integration",
            "Host-Guest Transition Mechanisms",
            "VM Exit Resumption Logic",
            "Register State Management",
            "Performance Implications",
            "Optimization Strategies",
        ],
    ),
    (
        "Architecture-Specific vCPU Implementations",
        &[
            "Introduction",
            "Architecture Abstraction through Conditional Compilation",
            "Trait-Based Interface: AxArchVCpuImpl",
            "Backend Comparison: x86_64, RISC-V, AArch64",
            "VM Entry/Exit Procedures",
            "x86_64",
            "RISC-V",
            "AArch64",
            "Register State Management",
            "System Register Access Patterns",
            "Implementation Examples",
            "run()",
            "handle_exit()",
            "Interrupt Injection",
            "Cross-Platform Consistency Challenges",
            "Adding Support for New Architectures",
            "External Crate Dependencies",
        ],
    ),
    (
        "Exit Handling and Reason Processing",
        &[
            "Introduction",
            "VCPU Exit Mechanisms Overview",
            "AxVCpuExitReason Enumeration",
            "Exit Propagation and Dispatch Logic",
            "Architecture-Specific Exit Handling",
            "Memory Access Emulation and Page Faults",
            "Device I/O Interception",
            "Interrupt Injection and Handling",
            "Debugging Exit Issues",
            "Extending Exit Handlers",
        ],
    ),
    (
        "vCPU API Reference",
        &[
            "Introduction",
            "Core vCPU Types and Aliases",
            "Architecture-Specific Implementation Selection",
            "vCPU Lifecycle Management",
            "Execution Control and VM Exit Handling",
            "Interrupt Injection Mechanisms",
            "Register Access and State Management",
            "vCPU Binding and Thread Affinity",
            "Lifetime and Thread Safety Guarantees",
            "Dependencies and External Crates",
        ],
    ),
];

/// Whether `FILE::NAME` is a test.
fn is_a_test(name: &str) -> bool {
    let Some((file, test)) = name.rsplit_once("::") else { return false };
    let source = fs::read_to_string(root().join(file)).unwrap_or_default();
    let marked = source.split("#[test]").skip(1);
    marked.filter_map(|rest| rest.split("fn ").nth(1)?.split('(').next()).any(|it| it == test)
}

#[test]
fn every_section_about_axvm_has_a_test_that_there_is() {
    let page = page("axvm.md");
    let mut missing = BTreeSet::new();
    for (document, sections) in SECTIONS {
        let part = page.split(&format!("\n### {document}\n")).nth(1).unwrap_or_default();
        let rows: Vec<_> = part.lines().take_while(|line| !line.starts_with('#')).collect();
        for section in sections {
            let row = rows.iter().find(|row| row.starts_with(&format!("| {section} |")));
            let shown_by = row.and_then(|row| row.split(" | ").nth(2)).unwrap_or_default();
            let tests = quoted(shown_by);
            if tests.is_empty() {
                missing.insert(format!("{document}: {section}: no test"));
            }
            missing.extend(tests.into_iter().filter(|test| !is_a_test(test)));
        }
    }
    none_missing("tests", missing);
}

#[test]
fn all_that_the_documents_have_wrong_is_put_right() {
    let page = page("axvm.md");
    let missing = (1..=20).map(|n| format!("{n}. **E{n}** ")).filter(|it| !page.contains(it));
    none_missing("errata", missing.collect());
}

/// The recipe's table of what an architecture of KVM defines.
#[test]
fn each_architecture_has_the_items_of_the_recipe() {
    let recipe = page("adding-an-architecture.md");
    let table = recipe.split("| item | what it says |").nth(1).unwrap();
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.contains('|')).collect();
    let items: Vec<_> =
        rows.iter().flat_map(|row| quoted(row.split('|').nth(1).unwrap())).collect();
    assert!(items.len() >= 15, "{items:?}");
    let mut missing = BTreeSet::new();
    for arch in ["x86_64", "aarch64", "riscv64"] {
        let source = fs::read_to_string(root().join(format!("src/kvm/{arch}.rs"))).unwrap();
        for item in &items {
            let defined = source.lines().any(|line| {
                let words: Vec<_> =
                    line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
                let is_it =
                    |two: &[&str]| ["fn", "const", "struct"].contains(&two[0]) && two[1] == item;
                words.windows(2).any(is_it)
            });
            if !defined {
                missing.insert(format!("src/kvm/{arch}.rs: {item}"));
            }
        }
    }
    none_missing("items", missing);
}
