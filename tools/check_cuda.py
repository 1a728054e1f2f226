# SPDX-License-Identifier: MIT
"""Checks what nvcc makes of the CUDA kernels, without a GPU.

Every .cu file is compiled for each compute capability. In ptxas's report the kernels in
`SPILL_FREE` must use no local memory; in the machine code the kernels for tensor cores must use
them, and the others the ordinary units.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The wheels nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm put their programs into such folders.
WHEELS = [str(p) for root in sys.path for p in Path(root).glob("nvidia/*/bin")]
TOOL_PATH = os.pathsep.join([*WHEELS, os.environ.get("PATH", os.defpath)])

# Kernels that keep everything in registers and shared memory, in every variant.
SPILL_FREE = (
    "relu_sum_kernel",
    "sum_parts_kernel",
    "simt_product_kernel",
    "tensor_product_kernel",
    "warpgroup_product_kernel",
    "left_image_kernel",
    "image_product_kernel",
    "row_image_kernel",
    "column_image_kernel",
    "finish_weights_kernel",
    "finish_inputs_kernel",
    "sum_samples_kernel",
    "split_terms_kernel",
    "path_kernel",
    "mean_losses_kernel",
    "prepare_kernel",
    "evaluate_kernel",
    "sum_slots_kernel",
    "sum_shares_kernel",
    "add_shares_kernel",
    "normals_kernel",
)
# Kernels that may keep so many bytes of what outlives their inner loops in local memory.
NEARLY_SPILL_FREE = {
    "train_on_population_kernel": 32,
    "train_on_samples_kernel": 32,
    "train_on_lanes_kernel": 72,
}
# Variants, as `short_name` writes them; each expression must find a kernel.
TENSOR = (r"\brelu_sum_kernel<TensorTile", r"\bpath_kernel<TensorTile", r"\btensor_product_kernel<")
WARPGROUP = (
    r"\brelu_sum_kernel<WarpgroupTile",
    r"\bwarpgroup_product_kernel<",
    r"\bimage_product_kernel<",
)
SIMT = (
    r"\brelu_sum_kernel<SimtTile<float",
    r"\bpath_kernel<SimtTile<float",
    r"\bsimt_product_kernel<float",
)
BF16_HMMA, LDMATRIX, COPY_ASYNC = r"HMMA\..*\bBF16", r"LDSM\b", r"LDGSTS\b"
LOCAL_MEMORY = r"(LDL|STL)\b"
OVERWRITES = "OVERWRITES"
BF16_HGMMA = r"HGMMA\..*\bBF16"
FIRST_TENSOR_CAPABILITY = 80  # of those with bfloat16 and cp.async
WARPGROUP_CAPABILITY = 90  # the only one


@dataclass(frozen=True)
class Kernel:
    """What ptxas reports of a kernel; memory in bytes, with that of functions it calls."""

    name: str
    capability: int
    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int


def parse_report(text: str) -> list[Kernel]:
    """Kernels of a report of `ptxas -v`, under their mangled names."""
    pieces = re.split(r"Compiling entry function '([^']+)' for 'sm_(\d+)[af]?'", text)[1:]
    kernels = []
    for name, capability, body in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        frame = r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        frames = re.findall(frame, body)
        used = re.search(r"Used (\d+) registers(.*)", body)
        if not frames or not used:
            raise ValueError(f"ptxas's report on {name} is not understood:\n{body}")
        shared = re.search(r"(\d+) bytes smem", used[2])
        stack, stores, loads = (sum(map(int, column)) for column in zip(*frames, strict=True))
        memory = int(shared[1]) if shared else 0
        kernels.append(Kernel(name, int(capability), int(used[1]), memory, stack, stores, loads))
    return kernels


def bodies_of(text: str) -> dict[str, str]:
    """What `cuobjdump -sass` prints of each kernel, by mangled name."""
    pieces = re.split(r"^\s*Function : (\S+)\s*$", text, flags=re.MULTILINE)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def parse_machine_code(text: str) -> dict[str, set[str]]:
    """Instructions of each kernel, by mangled name; `OVERWRITES` if `overwrites` finds any."""
    instruction = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Zx0-9_.]*)")
    return {
        name: set(instruction.findall(body)) | ({OVERWRITES} if overwrites(body) else set())
        for name, body in bodies_of(text).items()
    }


def overwrites(body: str) -> list[str]:
    """Instructions that write registers which the products of a warpgroup may still be reading.

    The products of a group read their left operand after they are issued, until the group is waited
    for, and ptxas has been seen to give such registers away before that (the results were wrong).
    The code is read from top to bottom, branches or not.
    """
    faults: list[str] = []
    groups: list[set[int]] = [set()]  # registers that are read; the last group is open
    for line in re.findall(r"/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", body):
        if product := re.search(r"HGMMA\S* R\d+, R(\d+), gdesc", line):
            first = int(product[1])
            groups[-1] |= set(range(first, first + 4))
        elif wait := re.search(r"WARPGROUP\.DEPBAR\.LE gsb0, (0x[0-9a-f]+)", line):
            groups = groups[len(groups) - 1 - int(wait[1], 16) :]
        elif written := re.match(r"(?:@!?U?P\w+ +)?([A-Z0-9_.]+) +(?:U?P\w+, +)*R(\d+)", line):
            name, first = written[1], int(written[2])
            width = 4 if ".128" in name else 2 if re.search(r"\.64|\.WIDE|^CS2R", name) else 1
            reads = "SETP" in name or name.startswith(("ST", "LDGSTS", "RED"))
            if not reads and any(set(range(first, first + width)) & group for group in groups):
                faults.append(line)
        if re.search(r"HGMMA.*gsb0", line):
            groups.append(set())
    return faults


def short_name(demangled: str) -> str:
    """A demangled kernel without return type, parameters and the project's namespaces."""
    name = re.sub(r"\(anonymous namespace\)::|\blmc::(cuda::)?|^void ", "", demangled)
    return re.sub(r"\([^()]*\)$", "", name)


def base_name(name: str) -> str:
    """The function's own name: `path_kernel` of `path_losses::path_kernel<float>`."""
    match = re.match(r"(?:\w+::)*(\w+)", name)
    return match[1] if match else name


def allowed_bytes(name: str) -> float:
    """Bytes of local memory that a kernel may have."""
    base = base_name(name)
    return 0 if base in SPILL_FREE else NEARLY_SPILL_FREE.get(base, float("inf"))


def spill_faults(kernels: Iterable[Kernel], capabilities: Iterable[int]) -> list[str]:
    """Local memory beyond what is allowed, and declared kernels that are not there."""
    ordered = sorted(kernels, key=lambda k: (k.name, k.capability))
    faults = [
        f"{k.name}, sm_{k.capability}: {k.stack} bytes stack frame, "
        f"{k.spill_stores} bytes spill stores, {k.spill_loads} bytes spill loads"
        for k in ordered
        if max(k.stack, k.spill_stores, k.spill_loads) > allowed_bytes(k.name)
    ]
    for capability in capabilities:
        found = {base_name(k.name) for k in ordered if k.capability == capability}
        missing = [name for name in (*SPILL_FREE, *NEARLY_SPILL_FREE) if name not in found]
        faults += [f"{name}, sm_{capability}: declared spill-free, not found" for name in missing]
    return faults


def instruction_faults(code: dict[str, set[str]], capability: int) -> list[str]:
    """What is missing in the machine code for a capability, and what should not be there."""
    faults = [
        f"{variant}, sm_{capability}: no such kernel"
        for variant in TENSOR + WARPGROUP + SIMT
        if not any(re.search(variant, name) for name in code)
    ]

    def check(name: str, pattern: str, wanted: bool) -> None:
        found = sorted(i for i in code[name] if re.match(pattern, i))
        if bool(found) != wanted:
            what = f"no instruction like {pattern}" if wanted else f"has {', '.join(found)}"
            faults.append(f"{name}, sm_{capability}: {what}")

    for name in code:
        if any(re.search(variant, name) for variant in TENSOR):
            if capability >= FIRST_TENSOR_CAPABILITY:
                for pattern in (BF16_HMMA, LDMATRIX, COPY_ASYNC):
                    check(name, pattern, True)
            else:
                check(name, "HMMA", False)
        if any(re.search(variant, name) for variant in WARPGROUP):
            check(name, BF16_HGMMA, capability == WARPGROUP_CAPABILITY)
            check(name, OVERWRITES, False)
        if any(re.search(variant, name) for variant in SIMT):
            check(name, "FFMA", True)
        if base_name(name) in SPILL_FREE:
            check(name, LOCAL_MEMORY, False)
    return faults


def table(kernels: Iterable[Kernel]) -> str:
    """A line per kernel; a star marks one that may use local memory."""
    lines = [
        f"{'capability':>10} {'registers':>9} {'shared':>6} {'stack':>5} {'spills':>6}  kernel"
    ]
    for k in sorted(kernels, key=lambda k: (k.name, k.capability)):
        star = "" if base_name(k.name) in SPILL_FREE else " *"
        spills = k.spill_stores + k.spill_loads
        numbers = f"{k.capability:>10} {k.registers:>9} {k.shared:>6} {k.stack:>5} {spills:>6}"
        lines.append(f"{numbers}  {k.name}{star}")
    return "\n".join(lines)


def output_of(*command: str | Path, text: str | None = None) -> str:
    """What a command prints, errors included; ends the program if it fails."""
    done = subprocess.run(
        command,
        input=text,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        env=os.environ | {"PATH": TOOL_PATH},
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}exit status {done.returncode}")
    return done.stdout


def compiled(source: Path, capability: int, nvcc: str) -> tuple[list[Kernel], dict[str, set[str]]]:
    """What ptxas reports of a .cu file and the instructions of its kernels; names are short."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        target = f"{capability}a" if capability == WARPGROUP_CAPABILITY else str(capability)
        flags = [nvcc, "-Xptxas", "-v", "-std=c++17", "-O3", "-DNDEBUG"]
        flags += [f"--generate-code=arch=compute_{target},code=sm_{target}"]
        flags += [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/common/cuda/device'}"]
        kernels = parse_report(output_of(*flags, "-cubin", "-o", cubin, source))
        code = parse_machine_code(output_of("cuobjdump", "-sass", cubin))
    mangled = [k.name for k in kernels]
    if set(mangled) != set(code):
        sys.exit(f"{source}, sm_{capability}: report and machine code have different kernels")
    demangled = output_of("c++filt", text="\n".join(mangled)).splitlines()
    short = dict(zip(mangled, map(short_name, demangled), strict=True))
    return (
        [replace(k, name=short[k.name]) for k in kernels],
        {short[name]: instructions for name, instructions in code.items()},
    )


def main() -> int:
    """Runs the checks; 1 if one fails."""
    parser = argparse.ArgumentParser(description="Checks what nvcc makes of the CUDA kernels.")
    parser.add_argument("--architectures", default="75,90", help="compute capabilities: 75,90")
    parser.add_argument("--nvcc", default=os.environ.get("CUDACXX", "nvcc"), help="the compiler")
    arguments = parser.parse_args()
    capabilities = [int(a) for a in arguments.architectures.split(",")]
    for tool in (arguments.nvcc, "cuobjdump", "nvdisasm", "c++filt"):
        if not shutil.which(tool, path=TOOL_PATH):
            sys.exit(f"no {tool}: install the CUDA toolkit, binutils and the extra lmc_fast[dev]")

    jobs = [(s, c) for s in sorted((ROOT / "csrc").rglob("*.cu")) for c in capabilities]
    kernels: set[Kernel] = set()  # one that two files have is one
    code: dict[int, dict[str, set[str]]] = {c: {} for c in capabilities}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda job: compiled(job[0], job[1], arguments.nvcc), jobs)
        for (_, capability), (found, instructions) in zip(jobs, results, strict=True):
            kernels.update(found)
            for name, names in instructions.items():
                code[capability].setdefault(name, set()).update(names)
    print(table(kernels))
    faults = spill_faults(kernels, capabilities)
    for capability in capabilities:
        faults += instruction_faults(code[capability], capability)
    print("\n".join(f"FAILED {fault}" for fault in faults) or "passed", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
