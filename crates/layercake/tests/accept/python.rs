//! Case 4: a Python application as people write them.

use crate::debian;
use crate::lab::{Lab, Step, bytes, everything};

const DOCKERFILE: &str = r#"FROM debian:local
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --break-system-packages -r requirements.txt
COPY . .
CMD ["python3", "-m", "django", "--version"]
"#;

/// Builds the image. `None` where there is no Debian.
pub(crate) fn build(lab: &Lab) -> Option<&'static str> {
    debian::base(lab)?;
    lab.write("python/requirements.txt", "django==4.2.16\n");
    lab.write("python/app.py", "import django\nprint(django.get_version())\n");
    let file = lab.write("python/Dockerfile", DOCKERFILE);
    lab.build("python-app", file.parent().expect("its directory"), &[]);
    Some("python-app")
}

#[test]
fn case_4_a_python_application() {
    if !everything() {
        // Minutes, and PyPI: not for every run of the suite.
        eprintln!("skipped: only with LAYERCAKE_TEST_ALL (cargo xtask accept 4)");
        return;
    }
    let lab = Lab::new().expect("nothing is skipped");
    build(&lab).expect("nothing is skipped");
    assert_eq!(lab.print(&["run", "python-app"]), "4.2.16\n");
    assert_eq!(lab.print(&["run", "python-app", "python3", "app.py"]), "4.2.16\n");

    // A change of the program does not install again.
    lab.write("python/app.py", "print('changed')\n");
    let steps = lab.build("python-app", &lab.path("python"), &[]);
    let ran: Vec<&str> = steps.iter().filter(|s| s.1 == Step::Ran).map(|s| s.0.as_str()).collect();
    assert_eq!(ran, ["COPY . ."]);
    assert_eq!(lab.print(&["run", "python-app", "python3", "app.py"]), "changed\n");
    for (by, size) in lab.history("python-app") {
        println!("  {:>14}  {}", bytes(size), by.chars().take(90).collect::<String>());
    }
}
