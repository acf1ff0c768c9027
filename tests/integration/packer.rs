//! `packer/`: formatted, valid for both builders as it is, and clear about a variable that is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Dir;
use crate::support::binary::Ended;

fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn template() -> String {
    fs::read_to_string(source().join("packer/farewell.pkr.hcl")).expect("the template")
}

fn amazon() -> String {
    fs::read_to_string(source().join("packer/amazon/farewell.pkr.hcl")).expect("the template")
}

/// What the template for AWS says that Packer 1.6 does not know.
const LATER: [&str; 3] = [
    "packer {\n  required_version = \">= 1.7.0\"\n\n  required_plugins {\n    amazon = {\n      \
     source  = \"github.com/hashicorp/amazon\"\n      version = \">= 1.2.0\"\n    }\n  }\n}\n",
    "  imds_support = \"v2.0\"\n",
    "  metadata_options {\n    http_endpoint               = \"enabled\"\n    \
     http_tokens                 = \"required\"\n    http_put_response_hop_limit = 1\n  }\n",
];

/// The template for AWS without that, as a file for Debian's Packer, which is 1.6.
fn amazon_of_before(room: &Dir) -> String {
    let mut text = amazon();
    for later in LATER {
        assert_eq!(text.matches(later).count(), 1, "{later}");
        text = text.replace(later, "");
    }
    let path = room.file("amazon.pkr.hcl");
    fs::write(&path, text).expect("written");
    path
}

/// Packer, in a checkout whose binary is built, with an account of AWS that does not exist.
fn packer(room: &Dir, arguments: &[&str]) -> Ended {
    let mut command = Command::new("packer");
    command
        .args(arguments)
        .current_dir(source())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &room.0)
        .env("PACKER_CACHE_DIR", room.file("cache"))
        .env("PACKER_NO_COLOR", "1")
        .env("CHECKPOINT_DISABLE", "1")
        .env("AWS_ACCESS_KEY_ID", "nobody")
        .env("AWS_SECRET_ACCESS_KEY", "nothing");
    Ended::of(&mut command)
}

fn validate(room: &Dir, template: &str, variables: &[&str]) -> Ended {
    let mut arguments = vec!["validate"];
    let binary = concat!("binary=", env!("CARGO_BIN_EXE_farewell"));
    for variable in [binary].iter().chain(variables) {
        arguments.extend(["-var", variable]);
    }
    arguments.push(template);
    packer(room, &arguments)
}

/// What Packer says, on one line: it breaks lines where a terminal ends.
fn told(said: &Ended) -> String {
    let text = format!("{} {}", said.stdout, said.stderr);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The names of the template's variables, each with its block.
fn variables(template: &str) -> Vec<(&str, &str)> {
    let blocks = template.split("\nvariable \"").skip(1);
    blocks
        .map(|it| {
            let (name, block) = it.split_once('"').expect("a name");
            (name, block.split("\n}").next().unwrap_or_default())
        })
        .collect()
}

#[test]
#[ignore = "needs packer; tests/run has it"]
fn everything_is_formatted_as_packer_formats_it() {
    let room = Dir::new("packer-fmt");
    for folder in ["packer", "packer/amazon", "packer/plugins"] {
        let said = packer(&room, &["fmt", "-check", "-diff", folder]);
        assert_eq!((said.code, told(&said).as_str()), (0, ""), "{folder}");
    }
    fs::write(room.file("a.pkr.hcl"), "variable \"a\" {\ntype=string\n}\n").expect("written");
    let said = packer(&room, &["fmt", "-check", &room.file("a.pkr.hcl")]);
    assert_ne!(
        said.code, 0,
        "what is not formatted would be found: {said:?}"
    );
}

#[test]
#[ignore = "needs packer; tests/run has it"]
fn it_is_valid_for_both_builders_with_and_without_everything_that_can_be_said() {
    let room = Dir::new("packer-valid");
    fs::write(room.file("farewell.toml"), "").expect("written");
    fs::create_dir(room.0.join("conf.d")).expect("made");
    fs::create_dir(room.0.join("seed")).expect("made");
    for name in ["user-data", "meta-data"] {
        fs::write(room.0.join("seed").join(name), "").expect("written");
    }
    let config = format!("config={}", room.file("farewell.toml"));
    let conf_dir = format!("conf_dir={}/", room.file("conf.d"));
    let seed = format!("seed={}", room.file("seed"));
    let tree = format!("tree={}", source().display());
    let base = format!("base={}", room.file("farewell.toml"));
    let everywhere = [&config, &conf_dir, &tree, "output=/nonexistent/image"];
    let qemu = [
        &base,
        "base_checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "accelerator=tcg",
        "ssh_username=debian",
        "ssh_password=secret",
        &seed,
    ];
    let amazon = [
        &tree,
        "region=us-gov-west-1",
        "source_ami_name=mine-*",
        "source_ami_owner=self",
        "source_ami_username=ec2-user",
        "instance_type=m7i.large",
        "ami_name=mine",
        "ssh_from=[\"203.0.113.7/32\"]",
        "subnet_id=subnet-0123456789abcdef0",
        "instance_profile=builder",
        "kms_key_id=alias/images",
    ];
    let before = amazon_of_before(&room);
    for (template, variables) in [
        ("packer/", vec![]),
        ("packer/", [&qemu[..], &everywhere].concat()),
        (&before, vec![tree.as_str()]),
        (&before, [&amazon[..], &everywhere].concat()),
    ] {
        let said = validate(&room, template, &variables);
        assert_eq!(said.code, 0, "{template} {variables:?}: {said:?}");
    }
}

#[test]
#[ignore = "needs packer; tests/run has it"]
fn a_word_that_a_builder_does_not_know_would_be_found() {
    let room = Dir::new("packer-words");
    let before = fs::read_to_string(amazon_of_before(&room)).expect("it");
    for (text, word, wrong) in [
        (&before, "encrypt_boot ", "encrypt_boo "),
        (&template(), "headless ", "headles "),
    ] {
        let (before, sources) = text.split_once("\nsource \"").expect("sources");
        let text = format!("{before}\nsource \"{}", sources.replacen(word, wrong, 1));
        fs::write(room.file("wrong.pkr.hcl"), text).expect("written");
        let tree = format!("tree={}", source().display());
        let said = validate(&room, &room.file("wrong.pkr.hcl"), &[&tree]);
        assert_ne!(said.code, 0, "{said:?}");
        assert!(told(&said).contains(wrong.trim()), "{said:?}");
    }
}

#[test]
#[ignore = "needs packer; tests/run has it"]
fn a_variable_that_is_wrong_is_told_by_name_with_what_it_must_be() {
    let room = Dir::new("packer-variables");
    let amazon = amazon_of_before(&room);
    let tree = format!("tree={}", source().display());
    for (variable, expected) in [
        (
            "binary=",
            "The variable binary must name the farewell binary, as in -var binary=",
        ),
        (
            "binary=nothing",
            "Bad source 'nothing': stat nothing: no such file or directory",
        ),
        (
            "config=farewell.json",
            "The variable config must name a TOML file",
        ),
        (
            "config=nothing.toml",
            "nothing.toml: no such file or directory",
        ),
        ("conf_dir=nothing", "nothing: no such file or directory"),
        (
            "output=image/",
            "The variable output must name a folder, without a slash at its end.",
        ),
        ("base=", "The variable base must name a bootable disk image"),
        (
            "accelerator=fast",
            "The variable accelerator must be one of kvm, tcg, hvf, whpx and xen.",
        ),
        (
            "ssh_username=Root",
            "The variable ssh_username must be the name of a user",
        ),
        (
            "region=Frankfurt",
            "The variable region must be a region of AWS, as \"eu-central-1\".",
        ),
        (
            "source_ami_owner=me",
            "must be an account of 12 digits, self, amazon or aws-marketplace.",
        ),
        (
            "ami_name=a",
            "The variable ami_name must have 3 to 128 characters",
        ),
        (
            "ssh_from=[]",
            "The variable ssh_from must have an address at least",
        ),
    ] {
        let is_of_amazon = ["region=", "source_ami_", "ami_name=", "ssh_from="];
        let is_of_amazon = is_of_amazon.iter().any(|it| variable.starts_with(it));
        let template = if is_of_amazon { &amazon } else { "packer/" };
        let said = validate(&room, template, &[&tree, variable]);
        assert_eq!(said.code, 1, "{variable}: {said:?}");
        assert!(told(&said).contains(expected), "{variable}: {said:?}");
    }
    let said = packer(&room, &["validate", "packer/"]);
    assert!(
        told(&said).contains("Unset variable \"binary\""),
        "{said:?}"
    );
}

#[test]
fn every_variable_says_what_it_is_and_readme_md_names_it() {
    let template = template();
    let readme = fs::read_to_string(source().join("README.md")).expect("README.md");
    let amazon = amazon();
    let variables = [variables(&template), variables(&amazon)].concat();
    assert!(variables.len() > 20, "{variables:?}");
    for (name, block) in variables {
        assert!(block.contains("\n  description = \""), "{name}");
        let named = [
            format!("`{name}`"),
            format!("-var {name}="),
            format!("'{name}="),
        ];
        assert!(
            named.iter().any(|it| readme.contains(it)),
            "README.md does not name {name}"
        );
    }
    assert!(template.contains("variable \"ssh_password\""));
    assert_eq!(
        template.matches("sensitive   = true").count(),
        1,
        "the password"
    );
}

#[test]
#[ignore = "needs packer; tests/run has it"]
fn what_packer_1_6_refuses_lies_where_it_does_not_look() {
    let files = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(source().join(folder)).expect("a folder");
        let paths = entries.map(|it| it.expect("an entry").path());
        paths
            .filter(|it| it.to_string_lossy().ends_with(".pkr.hcl"))
            .collect()
    };
    let read = |paths: Vec<PathBuf>| -> String {
        paths
            .iter()
            .map(|it| fs::read_to_string(it).expect("read"))
            .collect()
    };
    assert!(!read(files("packer")).contains("required_plugins {"));
    let plugins = read(files("packer/plugins"));
    assert!(plugins.contains("github.com/hashicorp/qemu\""), "{plugins}");
}

#[test]
#[ignore = "needs packer; tests/run has it"]
fn a_base_from_the_network_must_be_the_one_that_a_checksum_names() {
    let room = Dir::new("packer-base");
    let sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for base in [
        "https://host.example/it.qcow2",
        "S3::https://host.example/it",
    ] {
        let base = format!("base={base}");
        let weak = format!("base_checksum=sha1:{}", &sum[..40]);
        for checksum in [
            "base_checksum=none",
            "base_checksum=file:http://host.example/sums",
            &weak,
        ] {
            let said = validate(&room, "packer/", &[&base, checksum]);
            assert_eq!(said.code, 1, "{checksum}: {said:?}");
            let expected =
                "the variable base_checksum must say which base is to come from the network";
            assert!(told(&said).contains(expected), "{checksum}: {said:?}");
        }
        let said = validate(&room, "packer/", &[&base]);
        assert_eq!(said.code, 1, "{said:?}");
        let proof = format!("base_checksum=sha256:{sum}");
        let said = validate(&room, "packer/", &[&base, &proof]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    // What is on this machine is believed.
    for base in [
        "base=/images/it.qcow2",
        "base=it.qcow2",
        "base=file:///images/it",
    ] {
        let said = validate(&room, "packer/", &[base]);
        assert_eq!(said.code, 0, "{base}: {said:?}");
    }
}

#[test]
fn the_image_of_aws_is_encrypted_and_asks_for_tokens_of_its_metadata() {
    let text = amazon();
    let (_, block) = text
        .split_once("\nsource \"amazon-ebs\" \"farewell\" {\n")
        .expect("it");
    let (block, _) = block.split_once("\n}\n").expect("its end");
    for line in [LATER[1], LATER[2], "  encrypt_boot = true\n"] {
        assert!(block.contains(line), "{line}: {block}");
    }
}

#[test]
fn both_templates_do_the_same_on_the_build_machine() {
    let steps = |text: &str| -> Vec<String> {
        let (_, build) = text.split_once("\nbuild {\n").expect("a build");
        let steps = build.split("\n  provisioner ").skip(1);
        steps.map(str::to_owned).collect()
    };
    let (mut qemu, mut amazon) = (steps(&template()), steps(&amazon()));
    let seals = [qemu.pop(), amazon.pop()].map(|it| it.expect("the last one"));
    assert!(qemu.len() > 4, "{qemu:?}");
    assert_eq!(qemu, amazon);
    // A seed is QEMU's alone.
    let [qemu, amazon] = seals;
    let without: Vec<&str> = qemu
        .lines()
        .filter(|it| !it.to_lowercase().contains("seed"))
        .collect();
    let squeezed = |it: &str| it.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeezed(&without.join("\n")), squeezed(&amazon));
}
