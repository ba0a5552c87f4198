"""Members of tars, lists, folders and files: stable order, direct access, damage named."""

import gzip
import io
import os
import pickle
import subprocess
import tarfile
import zipfile
from pathlib import Path

import ase
import numpy as np
import pytest

from deepdft import DensityGrid
from deepdft.io import DensityFormatError, members, read_density
from deepdft.io.archive import contents
from deepdft.io.formats import serialise

SHARED = Path(__file__).parents[3] / "shared" / "data"


def density(k):
    atoms = ase.Atoms("HO", positions=[[0.1, 0.2, 0.3], [1, 1, 1]], cell=np.eye(3) * 3, pbc=True)
    return DensityGrid(np.random.default_rng(k).random((3, 4, 5)), atoms)


def content(k, name="x.CHGCAR.zz"):
    return serialise(density(k), name, "")


def write_tar(path, files, form=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=form) as tar:
        folder = tarfile.TarInfo("folder.CHGCAR")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def tar(tmp_path):
    names = ["2.CHGCAR.zz", "b/1.CHGCAR.lz4", "README.md", "index.json", "x.cube.gz", "y.cube", "._2.CHGCAR.zz"]
    data = {name: content(k, name) if "C" in name or "cube" in name else b"text" for k, name in enumerate(names[:2])}
    data |= {"README.md": b"text", "index.json": b"{}", "._2.CHGCAR.zz": b"resource fork"}
    data |= {name: content(k, name) for k, name in ((2, "x.cube.gz"), (3, "y.cube"))}
    return write_tar(tmp_path / "data.tar", data)


def assert_is(found, k):
    np.testing.assert_allclose(found.values, density(k).values, rtol=1e-5)


def test_a_tar_keeps_its_own_order_and_other_files_are_left_out(tar):
    found = members(tar)
    assert [member.name for member in found] == ["2.CHGCAR.zz", "b/1.CHGCAR.lz4", "x.cube.gz", "y.cube"]
    for k, member in enumerate(found):
        assert_is(member.read(), k)
        assert_is(pickle.loads(pickle.dumps(member)).read(), k)


@pytest.mark.parametrize(
    ("options", "what"), [(["--sparse"], "a sparse file"), ([], "a link")], ids=["sparse", "hard link"]
)
def test_a_density_that_is_not_whole_in_its_tar_is_refused(tmp_path, options, what):
    (tmp_path / "a.cube").write_bytes(content(0, "a.cube"))
    os.link(tmp_path / "a.cube", tmp_path / "b.cube")
    with (tmp_path / "c.cube").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x")
    names = ["c.cube"] if options else ["a.cube", "b.cube"]
    subprocess.run(["tar", *options, "-cf", "x.tar", *names], cwd=tmp_path, check=True)
    with pytest.raises(DensityFormatError, match=rf"x\.tar: {names[-1]} is {what}, expected the density .* --deref"):
        members(tmp_path / "x.tar")
    subprocess.run(["tar", "--hard-dereference", "-cf", "x.tar", "a.cube", "b.cube"], cwd=tmp_path, check=True)
    assert [member.name for member in members(tmp_path / "x.tar")] == ["a.cube", "b.cube"]


def test_a_link_to_something_else_is_left_out(tmp_path):
    (tmp_path / "a.cube").write_bytes(content(0, "a.cube"))
    (tmp_path / "notes.txt").symlink_to("a.cube")
    subprocess.run(["tar", "-cf", "x.tar", "a.cube", "notes.txt"], cwd=tmp_path, check=True)
    found = contents(tmp_path / "x.tar")
    assert [member.name for member in found.members + found.others] == ["a.cube"]


def test_a_member_is_read_where_it_lies_without_the_rest_of_the_tar(tar):
    last = members(tar)[-1]
    data = bytearray(tar.read_bytes())
    data[: last.offset] = bytes(last.offset)
    tar.write_bytes(data)
    assert_is(last.read(), 3)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar_is_read(tmp_path, form):
    name = "a" * 60 + "/" + "b" * 60 + ".CHGCAR"
    (member,) = members(write_tar(tmp_path / "x.tar", {name: content(0, name)}, form))
    assert member.name == name
    assert_is(member.read(), 0)


def test_a_list_names_tars_beside_it(tmp_path):
    for name, k in (("b.tar", 0), ("a.tar", 1)):
        write_tar(tmp_path / name, {f"{k}.CHGCAR.zz": content(k)})
    (tmp_path / "all.txt").write_text("# comment\nb.tar\n\na.tar\n")
    found = members(tmp_path / "all.txt")
    assert [member.source.name for member in found] == ["b.tar", "a.tar"]
    assert_is(found[1].read(), 1)
    (tmp_path / "all.txt").write_text("b.tar\nc.tar\n")
    with pytest.raises(FileNotFoundError, match=r"all\.txt: line 2 names 'c\.tar'"):
        members(tmp_path / "all.txt")
    (tmp_path / "all.txt").write_bytes(b"b.tar\n\x1b[2J\xff\x00.tar\n")
    with pytest.raises(DensityFormatError, match=r"all\.txt: line 2 is not text; expected the name of a tar"):
        members(tmp_path / "all.txt")


def test_a_folder_is_sorted_naturally_with_its_subfolders(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("10.CHGCAR.zz", "9.cube", "sub/2.CHGCAR", "CHGCAR", "notes.md", ".hidden.cube", "sub/CHGCAR.json"):
        (tmp_path / name).write_bytes(content(0, name) if "." not in name[0] and "n" not in name else b"text")
    write_tar(tmp_path / "3.tar", {"in.CHGCAR.zz": content(1)})
    found = members(tmp_path)
    assert [member.name for member in found] == ["in.CHGCAR.zz", "9.cube", "10.CHGCAR.zz", "CHGCAR", "sub/2.CHGCAR"]
    assert_is(found[0].read(), 1)


def test_folders_that_links_lead_to_are_read_once(tmp_path):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    for name in ("folder/z/2.cube", "elsewhere/deep/10.cube", "elsewhere/9.cube"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content(0, name))
    (folder / "m").symlink_to(elsewhere)
    (folder / "n").symlink_to(elsewhere / "deep")  # is in m
    (folder / "latest").symlink_to("z")
    (elsewhere / "loop").symlink_to(folder)
    (folder / "z" / "self").symlink_to(".")
    (folder / "broken").symlink_to("absent")
    found = members(folder)
    assert [member.name for member in found] == ["m/9.cube", "m/deep/10.cube", "z/2.cube"]
    assert_is(found[1].read(), 0)
    (tmp_path / "given").symlink_to(folder)
    assert [member.name for member in members(tmp_path / "given")] == [member.name for member in found]


RUNS = [
    *("1/AECCAR0", "1/AECCAR1", "1/AECCAR2", "1/CHG", "1/CHGCAR", "1/INCAR", "1/PARCHG.0001.ALLK", "1/x.cube"),
    *("2/CHG.gz", "2/chgcar.gz", "3/AECCAR0", "3/CHG", "4/.CHGCAR", "4/.git/HEAD", "4/CHG_1"),
    *("CHG", "flat/CHGCAR", "flat/CHGCAR2", "flat/CHGCAR_1", "flat/CHG_2.CHGCAR", "flat/CHG_3"),
]
DENSITIES = [
    *("1/CHGCAR", "1/x.cube", "2/chgcar.gz", "3/CHG", "4/CHG_1", "CHG"),
    *("flat/CHGCAR", "flat/CHGCAR2", "flat/CHGCAR_1", "flat/CHG_2.CHGCAR"),
]
BESIDE = ["1/AECCAR0", "1/AECCAR1", "1/AECCAR2", "1/CHG", "1/PARCHG.0001.ALLK", "2/CHG.gz", "3/AECCAR0", "flat/CHG_3"]


def write_runs(folder):
    for name in RUNS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(RUNS.index(name), name) if name in DENSITIES + BESIDE else b"text")
    return folder


def test_beside_a_chgcar_the_other_densities_of_the_run_are_left_out(tmp_path):
    found = contents(write_runs(tmp_path))
    assert sorted(member.name for member in found.members) == DENSITIES
    assert sorted(member.name for member in found.derived) == BESIDE
    assert [member.name for member in found.others] == ["1/INCAR"]
    assert members(tmp_path) == found.members


@pytest.mark.parametrize("top", ["", "./", "all/"])
def test_runs_within_a_tar_are_told_apart_by_their_directories(tmp_path, top):
    runs = write_runs(tmp_path / "runs")
    found = contents(write_tar(tmp_path / "x.tar", {top + name: (runs / name).read_bytes() for name in RUNS}))
    assert [member.name for member in found.members] == [top + name for name in DENSITIES]
    assert [member.name for member in found.derived] == [top + name for name in BESIDE]
    assert [member.name for member in found.others] == [f"{top}1/INCAR"]


POSCAR = (
    "x\n1.0\n3 0 0\n0 3 0\n0 0 3\nH O\n2 1\nSelective dynamics\nDirect\n0 0 0 T T T\n0.5 0 0 F F F\n0 0.5 0 T T T\n"
)


def test_what_a_run_leaves_behind_is_no_structure(tmp_path):
    """As in the folder of a calculation with a Bader analysis, differences of densities and the relaxed structure."""
    density = content(0, "CHGCAR")
    for name in ("CHGCAR", "CHGCAR_sum", "CHGCAR_mag", "CHGCAR.bak", "CHGDIFF.vasp", "AECCAR0", "AECCAR2", "d.vasp"):
        (tmp_path / name).write_bytes(density)
    velocities = "\n" + "  0.0 0.0 0.0\n" * 3
    for name, text in (("relaxed.vasp", POSCAR), ("md.vasp", POSCAR + velocities), ("x.vasp.gz", POSCAR)):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    found = contents(tmp_path)
    assert [member.name for member in found.members] == ["CHGCAR", "d.vasp"]
    derived = ["AECCAR0", "AECCAR2", "CHGCAR.bak", "CHGCAR_mag", "CHGCAR_sum", "CHGDIFF.vasp"]
    assert sorted(member.name for member in found.derived) == derived
    assert sorted(member.name for member in found.others) == ["md.vasp", "relaxed.vasp", "x.vasp.gz"]


def test_parts_of_a_density_alone_are_no_source_unless_they_are_named(tmp_path):
    (tmp_path / "AECCAR2").write_bytes(content(0, "AECCAR2"))
    with pytest.raises(DensityFormatError, match=r"no densities in it; .*; AECCAR2 is a part of one and is read only"):
        contents(tmp_path)
    assert_is(read_density(tmp_path / "AECCAR2"), 0)


def test_a_tar_has_directories_of_its_own(tmp_path):
    write_tar(tmp_path / "x.tar", {"CHG": content(0, "CHG")})
    (tmp_path / "CHGCAR").write_bytes(content(1, "CHGCAR"))
    assert [member.name for member in members(tmp_path)] == ["CHGCAR", "CHG"]


def test_what_is_left_out_is_still_read_by_its_name(tmp_path):
    tar = write_tar(tmp_path / "run.tar", {name: content(k, name) for k, name in enumerate(("AECCAR0", "CHGCAR"))})
    assert_is(read_density(tar), 1)
    assert_is(read_density(tar, member="AECCAR0"), 0)


def test_one_file_is_its_own_member(tmp_path):
    (tmp_path / "x.cube").write_bytes(content(0, "x.cube"))
    (member,) = members(tmp_path / "x.cube")
    assert (member.name, member.label) == ("x.cube", str(tmp_path / "x.cube"))
    assert_is(member.read(), 0)


def test_a_pipe_or_a_device_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "x.cube")
    for source in (tmp_path / "x.cube", Path("/dev/zero")):
        with pytest.raises(DensityFormatError, match=rf"{source}: is a pipe or a device"):
            read_density(source)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_truncated_tar_is_named(tar, keep):
    data = tar.read_bytes().rstrip(b"\0")
    tar.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DensityFormatError, match=r"data\.tar: .*(truncated|not a whole)"):
        members(tar)


def test_a_tar_cut_between_members_is_named(tar):
    end = members(tar)[1].offset - 512
    for size in (end, end + 100):
        tar.write_bytes(tar.read_bytes()[:size])
        with pytest.raises(DensityFormatError, match=r"data\.tar: .* after 1 densities"):
            members(tar)


def test_a_damaged_header_in_the_middle_is_named(tar):
    data = bytearray(tar.read_bytes())
    at = members(tar)[2].offset - 512
    data[at : at + 50] = b"x" * 50
    tar.write_bytes(data)
    with pytest.raises(DensityFormatError, match=rf"data\.tar: a damaged header at byte {at} after 2 densities"):
        members(tar)


def test_a_damaged_member_is_named_with_its_tar(tar):
    member = members(tar)[1]
    data = bytearray(tar.read_bytes())
    data[member.offset + member.size // 2] ^= 0xFF
    tar.write_bytes(data)
    with pytest.raises(DensityFormatError, match=r"data\.tar: b/1\.CHGCAR\.lz4: not a whole lz4 frame"):
        member.read()


def test_a_tar_that_shrank_after_listing_is_named(tar):
    member = members(tar)[-1]
    tar.write_bytes(tar.read_bytes()[: member.offset + 10])
    with pytest.raises(DensityFormatError, match=r"y\.cube: expected \d+ bytes, found 10"):
        member.read()


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz"])
def test_a_compressed_tar_is_refused_with_the_remedy(tmp_path, name):
    with tarfile.open(tmp_path / name, "w:gz"):
        pass
    with pytest.raises(DensityFormatError, match=r"decompress it to x\.tar"):
        members(tmp_path / name)


def test_a_compressed_tar_under_another_name_is_an_error(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.cube"))
    with pytest.raises(DensityFormatError, match=r"x\.tar: not a whole uncompressed tar"):
        members(tmp_path / "x.tar")


@pytest.mark.parametrize("name", ["x.zip", "x.cube", "nameless"])
def test_a_zip_is_refused_with_the_remedy(tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("x.cube", content(0, "x.cube"))
    remedy = "zip archives are not read; unpack it, or pack its files as an uncompressed tar"
    with pytest.raises(DensityFormatError, match=rf"{name}: {remedy}$"):
        members(tmp_path / name)
    (member,) = members(write_tar(tmp_path / "x.tar", {"in.cube": (tmp_path / name).read_bytes()}))
    with pytest.raises(DensityFormatError, match=rf"x\.tar: in\.cube: {remedy}$"):
        member.read()


@pytest.mark.parametrize("name", ["x.cube", "x.tar", "x.txt"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DensityFormatError, match=rf"{name}: is a pipe or a device"):
        members(tmp_path / name)


def test_nothing_to_read_is_an_error(tmp_path):
    write_tar(tmp_path / "x.tar", {"README": b"text"})
    for source in (tmp_path / "x.tar", tmp_path):
        with pytest.raises(DensityFormatError, match="no densities in it"):
            members(source)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        members(tmp_path / "absent.tar")


def test_a_member_of_a_tar_is_read_by_name(tar, tmp_path):
    assert_is(read_density(tar, member="x.cube.gz"), 2)
    with pytest.raises(DensityFormatError, match=r"4 densities in it, such as '2\.CHGCAR\.zz'; name one with member="):
        read_density(tar)
    with pytest.raises(DensityFormatError, match="none is named 'z'"):
        read_density(tar, member="z")
    assert_is(read_density(write_tar(tmp_path / "one.tar", {"1.CHGCAR": content(0, "CHGCAR")})), 0)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
@pytest.mark.parametrize(
    ("name", "n_members", "low", "high"), [("ec", 3, 0.997, 1.0), ("nmc", 3, 0.94, 0.97), ("qm9_small", 97, 0.99, 1.02)]
)
def test_electron_counts_of_real_data_are_near_the_valence_counts(name, n_members, low, high):
    valence = {"H": 1, "Li": 3, "C": 4, "N": 5, "O": 6, "F": 7, "Mn": 15, "Co": 9, "Ni": 16}
    found = members(SHARED / f"{name}.tar")
    assert len(found) == n_members
    for member in found[::8]:
        density = member.read()
        n_valence = sum(valence[symbol] for symbol in density.atoms.get_chemical_symbols())
        assert low < density.n_electrons / n_valence < high, member.name
