# SPDX-License-Identifier: MIT
"""What tools/check_cuda.py reads in recorded output of the CUDA tools, and what it objects to."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools import check_cuda

NAME = "_ZN3lmc14two_layer_relu21finish_weights_kernelIdEEvNS0_13FinishWeightsIT_EE"
REPORT = f"""\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{NAME}' for 'sm_80'
ptxas info    : Function properties for {NAME}
    8 bytes stack frame, 16 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 8 bytes cumulative stack size, 512 bytes smem, 480 bytes cmem[0]
ptxas info    : Compile time = 28.285 ms
ptxas info    : Compiling entry function '_Z4otherv' for 'sm_90a'
ptxas info    : Function properties for _Z4otherv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 0 barriers
"""  # noqa: E501

MACHINE_CODE = """\
	code for sm_90
		Function : _Z5firstv
	.headerflags	@"EF_CUDA_SM90 EF_CUDA_VIRTUAL_SM(EF_CUDA_SM90)"
        /*0000*/                   LDC R1, c[0x0][0x28] ;      /* 0x00000a00ff017b82 */
                                                               /* 0x000fe20000000800 */
        /*0050*/              @!P0 BRA 0x130 ;                 /* 0x0000000000348947 */
        /*0060*/             @!UP2 UIADD3 UR4, UR4, 0x1 ;      /* 0x0000000000348947 */
        /*12f0*/                   HMMA.16816.F32.BF16 R4, R8, R2, RZ ;  /* 0x0000000208 */
        /*1300*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0 ;  /* 0x0 */
		..........

		Function : _Z6secondv
        /*0000*/                   STL.64 [R1], R2 ;           /* 0x00000a00ff017b82 */
        /*0010*/                   EXIT ;                      /* 0x000000000000794d */
"""

WARPGROUP_CODE = {"HGMMA.64x128x16.F32.BF16"}
TENSOR_CODE = {"HMMA.16816.F32.BF16", "LDSM.16.M88.4", "LDGSTS.E.BYPASS.128", "EXIT"}


def kernels(**changes: int) -> list[check_cuda.Kernel]:
    """Every declared kernel, none of which spills but the first by `changes`."""
    clean = {"registers": 32, "shared": 0, "stack": 0, "spill_stores": 0, "spill_loads": 0}
    return [
        check_cuda.Kernel(f"op::{name}<float>", 80, **(clean | (changes if not i else {})))
        for i, name in enumerate((*check_cuda.SPILL_FREE, *check_cuda.NEARLY_SPILL_FREE))
    ]


def machine_code(
    tensor: set[str], simt: set[str], warpgroup: set[str] = frozenset()
) -> dict[str, set[str]]:
    """Instructions of a kernel for each variant that the check knows."""
    kinds = {check_cuda.TENSOR: tensor, check_cuda.SIMT: simt, check_cuda.WARPGROUP: warpgroup}
    return {
        variant.removeprefix(r"\b") + "...>": instructions
        for variants, instructions in kinds.items()
        for variant in variants
    }


def test_report_is_read() -> None:
    assert check_cuda.parse_report(REPORT) == [
        check_cuda.Kernel(NAME, 80, 48, 512, 8, 16, 24),
        check_cuda.Kernel("_Z4otherv", 90, 12, 0, 0, 0, 0),
    ]


def test_report_counts_the_functions_that_a_kernel_calls() -> None:
    called = "    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\n"
    assert check_cuda.parse_report(REPORT + called)[1].spill_stores == 4


def test_unknown_report_is_an_error() -> None:
    with pytest.raises(ValueError, match="not understood"):
        check_cuda.parse_report(REPORT.replace("spill stores", "stores"))


def test_machine_code_is_read() -> None:
    assert check_cuda.parse_machine_code(MACHINE_CODE) == {
        "_Z5firstv": {"LDC", "BRA", "UIADD3", "HMMA.16816.F32.BF16", *WARPGROUP_CODE},
        "_Z6secondv": {"STL.64", "EXIT"},
    }


@pytest.mark.parametrize(
    ("demangled", "short", "base"),
    [
        (
            "void lmc::two_layer_relu::relu_sum_kernel<lmc::cuda::SimtTile<float, 128> >("
            "lmc::two_layer_relu::ReluSum<lmc::cuda::SimtTile<float, 128>::Element>)",
            "two_layer_relu::relu_sum_kernel<SimtTile<float, 128> >",
            "relu_sum_kernel",
        ),
        (
            "void lmc::cuda::split_terms_kernel<1>(lmc::cuda::SplitTerms)",
            "split_terms_kernel<1>",
            "split_terms_kernel",
        ),
        ("lmc::(anonymous namespace)::scale(float*)", "scale", "scale"),
    ],
)
def test_names(demangled: str, short: str, base: str) -> None:
    assert check_cuda.short_name(demangled) == short
    assert check_cuda.base_name(short) == base


def test_report_without_spills_passes() -> None:
    assert check_cuda.spill_faults(kernels(), [80]) == []


@pytest.mark.parametrize("field", ["stack", "spill_stores", "spill_loads"])
def test_spill_fails(field: str) -> None:
    (fault,) = check_cuda.spill_faults(kernels(**{field: 8}), [80])
    assert fault.startswith(f"op::{check_cuda.SPILL_FREE[0]}<float>, sm_80: ")
    assert "8 bytes " + field.replace("_", " ") in fault


def test_only_declared_kernels_may_not_spill() -> None:
    other = check_cuda.Kernel("op::other_kernel<float>", 80, 255, 0, 64, 64, 64)
    assert check_cuda.spill_faults([*kernels(), other], [80]) == []
    assert check_cuda.table([other]).endswith("128  op::other_kernel<float> *")


def test_renamed_kernel_fails_in_its_capability() -> None:
    first, *others = kernels()
    assert check_cuda.spill_faults(others, [80]) == [
        f"{check_cuda.base_name(first.name)}, sm_80: declared spill-free, not found"
    ]
    assert len(check_cuda.spill_faults(kernels(), [80, 90])) == len(kernels())


def test_kernels_that_may_spill_a_little_may_not_spill_more() -> None:
    *clean, last = kernels()
    limit = check_cuda.NEARLY_SPILL_FREE[check_cuda.base_name(last.name)]
    for stores, faults in ((limit, 0), (limit + 1, 1)):
        changed = replace(last, spill_stores=stores)
        assert len(check_cuda.spill_faults([*clean, changed], [80])) == faults


def test_machine_code_as_wanted_passes() -> None:
    assert check_cuda.instruction_faults(machine_code(TENSOR_CODE, {"FFMA"}), 80) == []
    assert check_cuda.instruction_faults(machine_code({"EXIT"}, {"FFMA"}), 75) == []


@pytest.mark.parametrize("missing", sorted(TENSOR_CODE - {"EXIT"}))
def test_missing_tensor_instruction_fails(missing: str) -> None:
    code = machine_code(TENSOR_CODE - {missing}, {"FFMA"}, WARPGROUP_CODE)
    faults = check_cuda.instruction_faults(code, 90)
    assert len(faults) == len(check_cuda.TENSOR)
    assert all("sm_90: no instruction like " + missing.split(".")[0] in fault for fault in faults)


def test_other_tensor_arithmetic_fails() -> None:
    half = TENSOR_CODE - {"HMMA.16816.F32.BF16"} | {"HMMA.16816.F32"}
    assert check_cuda.instruction_faults(machine_code(half, {"FFMA"}), 80) != []


def test_tensor_cores_before_bfloat16_fail() -> None:
    faults = check_cuda.instruction_faults(machine_code(TENSOR_CODE, {"FFMA"}), 75)
    assert len(faults) == len(check_cuda.TENSOR)
    assert all("has HMMA.16816.F32.BF16" in fault for fault in faults)


def test_missing_multiply_add_fails() -> None:
    faults = check_cuda.instruction_faults(machine_code({"EXIT"}, {"FMUL", "FADD"}), 75)
    assert len(faults) == len(check_cuda.SIMT)
    assert all("no instruction like FFMA" in fault for fault in faults)


def test_warpgroups_are_used_at_their_capability_only() -> None:
    with_them = machine_code(TENSOR_CODE, {"FFMA"}, WARPGROUP_CODE)
    without = machine_code(TENSOR_CODE, {"FFMA"})
    assert check_cuda.instruction_faults(with_them, 90) == []
    assert len(check_cuda.instruction_faults(with_them, 80)) == len(check_cuda.WARPGROUP)
    faults = check_cuda.instruction_faults(without, 90)
    assert all("no instruction like HGMMA" in fault for fault in faults)
    assert len(faults) == len(check_cuda.WARPGROUP)


def product(left: int, *, last: bool = True) -> str:
    return f"HGMMA.64x128x16.F32.BF16 R24, R{left}, gdesc[UR12].tnspB, R24{', gsb0' * last}"


WAITS = ("WARPGROUP.DEPBAR.LE gsb0, 0x0", "WARPGROUP.DEPBAR.LE gsb0, 0x1")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([product(104), WAITS[0], "FADD R104, R1, R2"], 0),
        ([product(104), "FADD R103, R104, R2", "FADD R108, R107, R2", WAITS[0]], 0),
        ([product(104), "STS [R104], R105", "ISETP.NE.AND P0, PT, R104, R1, PT", WAITS[0]], 0),
        ([product(104), "FADD R107, R1, R2", WAITS[0]], 1),
        ([product(104), "IMAD.WIDE R103, R1, R2, R4", "CS2R R102, SRZ", WAITS[0]], 1),
        ([product(104), "@!P0 LOP3.LUT P1, R104, R1, 0x1, RZ, 0xc0, !PT", WAITS[0]], 1),
        ([product(104, last=False), product(112), "MOV R105, R1", "MOV R112, R1", WAITS[0]], 2),
        ([product(104), product(112), WAITS[1], "MOV R104, R1", WAITS[0]], 0),
        ([product(104), product(112), WAITS[1], "MOV R112, R1", WAITS[0]], 1),
        (["HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0", "MOV R104, R1", WAITS[0]], 0),
    ],
)
def test_registers_written_under_a_product_are_found(lines: list[str], found: int) -> None:
    body = "\n".join(
        f"        /*{16 * i:04x}*/  {line} ;  /* 0x0 */" for i, line in enumerate(lines)
    )
    assert len(check_cuda.overwrites(body)) == found
    code = check_cuda.parse_machine_code("\t\tFunction : _Z1k\n" + body)
    assert (check_cuda.OVERWRITES in code["_Z1k"]) == bool(found)


@pytest.mark.parametrize("local", ["LDL.LU.64", "STL"])
def test_local_memory_fails(local: str) -> None:
    code = machine_code(TENSOR_CODE | {local}, {"FFMA"})
    faults = check_cuda.instruction_faults(code, 80)
    assert len(faults) == len(check_cuda.TENSOR)
    assert all(fault.endswith(f"has {local}") for fault in faults)


def test_variant_that_is_not_there_fails() -> None:
    code = machine_code(TENSOR_CODE, {"FFMA"})
    del code["path_kernel<TensorTile...>"]
    assert check_cuda.instruction_faults(code, 80) == [
        r"\bpath_kernel<TensorTile, sm_80: no such kernel"
    ]
