"""Break the mathematics on purpose and see whether a test notices: ``python tests/mutants.py LIST [--kept FILE]``.

Each mutant is one wrong line: a flipped sign, a dropped term, a swapped group.  It is written into a copy of the package, the
tests that answer for that module are run against the copy, and a mutant that they let pass is a hole in them.  LIST is theory,
experience, states, convolutions, images, sampling, learning, early, pilot, program, segmentation, several or variability.  With ``--kept`` every fate is a line of FILE, and a run that was stopped goes on where it was: what
FILE says was caught is not tried again, what was missed is.
"""

# ruff: noqa: E501

import argparse
import ast
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import re
import runpy
import shutil
import sys
import tempfile
import warnings
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORMULAS = (
    "test_symbols_equal_theory",
    "test_theory_has_slopes_shapes_and_honest_gaps",
    "test_theory_predicts_linear_gaussian",
)
CELLS = ("test_cells_are_the_same_wherever_they_run",)
LESSONS = ("test_designs_say_how_they_learn",)
PREDICTION, SIMULATION = ("test_prediction_uses_the_source_only",), ("test_simulation_learns_and_repeats",)
NETWORKS = ("test_encoder_and_its_layers",)
ACCELERATED = ("test_accelerators_compute_the_same",)
BELIEF = ("test_theory_is_believed_as_far_as_it_agrees",)
TABLES = ("test_check_scores_are_right", "test_fit_recovers_known_weights")
LAWS = (
    "test_laws_equal_their_formulas",
    "test_beams_are_read_from_the_picture",
    "test_random_fields_are_those_of_jax",
    "test_memory_of_a_large_batch",
    "test_variability_keeps_its_word",
    "test_moments_of_drawn_images",
    "test_every_variability_of_the_catalogue",
)
SCORES = ("test_raf_has_its_properties", "test_auc_matches_sklearn", "test_metrics_intervals_cover_the_truth")

# module, what is there, what is put in its place
THEORY = [
    ("theory", "gap / jnp.sqrt(variance_case + variance_control)", "gap / jnp.sqrt(variance_case * 2)"),
    ("theory", "gap / jnp.sqrt(variance_case + variance_control)", "gap / (variance_case + variance_control)"),
    ("theory", "(mean - threshold) / jnp.sqrt(variance)", "(threshold - mean) / jnp.sqrt(variance)"),
    ("theory", "(mean - threshold) / jnp.sqrt(variance)", "(mean + threshold) / jnp.sqrt(variance)"),
    ("theory", "gap = mean[..., 1, :, None] - mean[..., 0, None, :]", "gap = mean[..., 0, :, None] - mean[..., 1, None, :]"),
    ("theory", "probability[..., 1, :, None] * probability[..., 0, None, :]", "probability[..., 0, :, None] * probability[..., 1, None, :]"),
    ("theory", "2 * prevalence * tpr / (", "prevalence * tpr / ("),
    ("theory", "(1 - prevalence) * fpr + prevalence)", "prevalence * fpr + prevalence)"),
    ("theory", "outer * _beside(growth**2 - growth, 2)", "outer * _beside(growth**2 + growth, 2)"),
    ("theory", "outer * _beside(growth**2 - growth, 2)", "outer * _beside(growth - 1, 2)"),
    ("theory", "mean * _beside(jnp.sqrt(growth), 1)", "mean * _beside(growth, 1)"),
    ("theory", "axis2=-1) / 2\n", "axis2=-1)\n"),
    ("theory", "* jnp.exp(field)", "* jnp.exp(-field)"),
    ("theory", "white * _beside(jnp.square(jnp.asarray(sigma)), 2)", "white * _beside(jnp.asarray(sigma), 2)"),
    ("theory", "probability * (1 - probability)", "probability * (1 + probability)"),
    ("theory", "mean + offset * _beside(probability, 1)", "mean - offset * _beside(probability, 1)"),
    ("theory", "jnp.square(order * jnp.asarray(sigma)) / 2", "jnp.abs(order) * jnp.square(jnp.asarray(sigma)) / 2"),
    ("theory", "jnp.square(wavenumber * jnp.asarray(sigma)) / 2", "jnp.square(wavenumber * jnp.asarray(sigma))"),
    ("theory", "return between / (between + view)", "return view / (between + view)"),
    ("theory", "return between / (between + view)", "return between / (between + 2 * view)"),
    ("theory", "cov + ridge * jnp.trace(cov) / size", "cov + ridge * jnp.trace(cov)"),
    ("theory", "rho2[::-1], 0.0), basis", "rho2, 0.0), basis"),
    ("theory", "vectors[:, ::-1], lower=True, trans=\"T\"", "vectors, lower=True, trans=\"T\""),
    ("theory", "jnp.linalg.solve(_ridged(uu, ridge), uv)", "jnp.linalg.solve(_ridged(uu, -ridge), uv)"),
    ("theory", "member = jnp.stack([label == 0, label == 1])", "member = jnp.stack([label == 1, label == 0])"),
    ("theory", "moments.mean - jnp.mean(moments.mean, -2, keepdims=True)", "moments.mean"),
    ("theory", "kappa - ridge - kappa / n *", "kappa - ridge + kappa / n *"),
    ("theory", "half_gap = (moments.mean[1] - moments.mean[0]) / 2", "half_gap = (moments.mean[0] - moments.mean[1]) / 2"),
    ("theory", "df2 = jnp.sum(smooth * smooth.T)", "df2 = jnp.trace(smooth)"),
    ("theory", "clean = 1 - 2 * flip", "clean = 1 - flip"),
    ("theory", "half_gap @ pull + kappa * pull @ pull", "half_gap @ pull - kappa * pull @ pull"),
    ("theory", "noise = 1 - clean**2 *", "noise = 1 + clean**2 *"),
    ("theory", "cov = noise / (n - df2)", "cov = noise / n"),
    ("theory", "spread = smooth @ resolvent", "spread = resolvent @ resolvent"),
    ("theory", "df2 <= 0.9 * n", "df2 >= 0.9 * n"),
    ("theory", "- law.centre @ law.mean", "+ law.centre @ law.mean"),
    ("theory", "second = law.cov + law.mean[:, None]", "second = law.mean[:, None]"),
    ("theory", "within + wander, _beside", "within - wander, _beside"),
    ("theory", "score[..., 1] - score[..., 0], within", "score[..., 0] - score[..., 1], within"),
    ("theory", "share[..., 1], share[..., 0]", "share[..., 0], share[..., 1]"),
    ("theory", "pull = dimension * (1 / n_control - 1 / n_case)", "pull = dimension * (1 / n_case - 1 / n_control)"),
    ("theory", "norm2 = separation2 + dimension * (1 / n_control + 1 / n_case)", "norm2 = separation2 + dimension * (1 / n_control - 1 / n_case)"),
    ("theory", "rate((pull - separation2) / 2", "rate((pull + separation2) / 2"),
    ("theory", "(1 + 2 * waves.sum(0)) / (2 * degree + 1)", "(1 + waves.sum(0)) / (2 * degree + 1)"),
    ("theory", "jnp.sin(factor * half) / (factor * jnp.sin(half))", "jnp.sin(factor * half) / jnp.sin(half)"),
    ("calibration", "(shifted_gap / jnp.asarray(shifted_variance)) / (gap", "(shifted_gap * jnp.asarray(shifted_variance)) / (gap"),
    ("unequal", "chance * label * jnp.sum(", "chance * jnp.sum("),
    ("unequal", "often * weight**2 *", "often * weight *"),
    ("unequal", "(1 - margin) / (1 + pliant)", "(1 - margin) / (1 - pliant)"),
    ("unequal", "((1, 1 - flip), (-1, flip))", "((1, flip), (-1, 1 - flip))"),
    ("unequal", "share * force2, moments.cov) / n", "share * force2, moments.cov)"),
    ("unequal", "mean = state.mean + _SIGN * state.offset", "mean = state.mean - _SIGN * state.offset"),
    ("unequal", "state.offset + jnp.sum(_SIGN * share * force)", "state.offset + jnp.sum(_SIGN * force)"),
    ("unequal", "state.offset + jnp.sum(_SIGN * share * force)", "0 * jnp.sum(_SIGN * share * force)"),
    ("symbols", "score_mean + (2 * y_c - 1) * offset", "score_mean - (2 * y_c - 1) * offset"),
    ("symbols", "_classes((2 * y_c - 1) * share_c", "_classes((1 - 2 * y_c) * share_c"),
    ("unequal", "many = (root - 0.5) / (2 * root)", "many = (root + 0.5) / (2 * root)"),
    ("unequal", "(1 + times) / (1 + again)", "(1 + again) / (1 + again)"),
    ("unequal", "df2 * (1 / case + 1 / control)", "df2 * (1 / case - 1 / control)"),
    ("unequal", "trace(smooth) * (1 / control - 1 / case)", "trace(smooth) * (1 / case - 1 / control)"),
    ("unequal", "(1 - df2 / freedom)", "(1 + df2 / freedom)"),
    ("unequal", "-margin - pliant * r", "-margin + pliant * r"),
    ("unequal", "(1 / n + (1 - 1 / n) / drawn)", "(1 / n + (1 + 1 / n) / drawn)"),
    ("theory", "jnp.sum(probability * rate(mean, variance, threshold), axis=-1)", "jnp.sum(rate(mean, variance, threshold), axis=-1)"),
    ("calibration", "density.sum(0) - density[1]", "density.sum(0) - density[0]"),
    ("calibration", "[:, None] * probability", "[:, None]"),
    ("symbols", "Phi((m_1 - m_0) / sp.sqrt(v_1 + v_0))", "Phi((m_1 + m_0) / sp.sqrt(v_1 + v_0))"),
    ("symbols", "(sp.exp(sigma**2) - 1) * mu_i * mu_j", "(sp.exp(sigma**2) + 1) * mu_i * mu_j"),
    ("symbols", "p * (1 - p) * a_i * a_j", "p**2 * a_i * a_j"),
    ("symbols", "C_uv**2 / (C_uu * C_vv)", "C_uv / (C_uu * C_vv)"),
    ("symbols", "(1 - 2 * eta) * u[i] / (ell[i] + kappa)", "(1 - eta) * u[i] / (ell[i] + kappa)"),
    ("symbols", "(ell[i] + 2 * kappa)", "(ell[i] + kappa)"),
    ("symbols", "_pull = d * (1 / n_0 - 1 / n_1)", "_pull = d * (1 / n_1 - 1 / n_0)"),
]  # fmt: skip

PROGRAM = [
    ("predict", "root @ clean.cov @ root", "clean.cov", PREDICTION),
    ("predict", "(1 - share) * start + share * end", "share * start + (1 - share) * end", PREDICTION),
    ("predict", "probit(measured) - probit(stated)", "probit(stated) - probit(measured)", PREDICTION),
    ("predict", "if fold is not folds[i]", "if fold is not None", PREDICTION),
    ("charts", "code[None] == np.arange(n_groups)[:, None]", "code[None] != np.arange(n_groups)[:, None]", PREDICTION),
    ("charts", "axes[:d] / np.square(scale[:d, None])", "axes[:d]", PREDICTION),
    ("charts", "one_by_one(clean) if several else by_layer(clean, self.width)", "by_layer(clean, self.width)", PREDICTION),
    ("agreement", "(known[0] - 1) * own", "(known[1] - 1) * own", BELIEF),
    ("agreement", "effect = z - z.mean(0)", "effect = z", BELIEF),
    ("agreement", "- np.square(effect).mean()) / (parts - 1)", "- np.square(effect).mean()) / parts", BELIEF),
    ("agreement", "np.clip(common / mean, 0, 1)", "np.clip(common / mean, -1, 1)", BELIEF),
    ("charts", "slice(each * i, each * (i + 1)) for i", "slice(0, each) for i", BELIEF),
    ("charts", "if fewest >= FEWEST", "if True", PREDICTION),
    ("charts", "fewest > best[0]", "fewest < best[0]", PREDICTION),
    ("charts", "minlength=stratum.max() + 1", "minlength=0", PREDICTION),
    ("charts", "jax.random.fold_in(key, deal) if deal else key", "key", PREDICTION),
    ("charts", "slice(each * q, each * (q + 1))", "slice(0, each)", PREDICTION),
    ("predict", "(pools if design.proxy.labelled else ()) or single", "single", PREDICTION),
    ("predict", "for network in chart.networks]", "for network in chart.networks[::-1]]", PREDICTION),
    ("predict", "_leading(np.concatenate([v, u]))", "_leading(np.concatenate([u, v]))", PREDICTION),
    ("charts", "for c in (1, 0))\n    return cases", "for c in (0, 1))\n    return cases", PREDICTION),
    ("predict", "centre=clean.mean.mean(0)", "centre=law.centre", PREDICTION),
    ("pretrain", "-rate[i - start] * u", "rate[i - start] * u", SIMULATION),
    ("pretrain", "seen(i + 1)", "seen(i)", SIMULATION),
    ("pretrain", "split(_keys(key, start + i)[1], label", "split(_keys(key, start + i)[0], label", SIMULATION),
    ("pretrain", "filed(kept, pair, i - 1)", "filed(kept, pair, i)", SIMULATION),
    ("pretrain", "return filed(kept, pair, -1)", "return kept", SIMULATION),
    ("console", "one.clear_cache()", "pass", CELLS),
    ("console", "if _maps() > most:", "if True:", CELLS),
    ("console", "if _maps() > most:", "if False:", CELLS),
    ("pretrain", "if patch else shown, label[now]", "if patch else shown, label[now][::-1]", SIMULATION),
    ("encoder", "middle, last + _moved(first, axis, -1)", "middle, first + _moved(last, axis, -1)", NETWORKS),
    # ---- accelerators; pairs made once
    ("backend", "return on_a_cpu if on_cpu() else ROOMY", "return ROOMY if on_cpu() else on_a_cpu", ACCELERATED),
    ("encoder", "jax.vjp(partial(_by_library, stride), x, weight)", "jax.vjp(partial(_by_library, stride), x, -weight)", ACCELERATED),
    ("architectures", "jax.lax.optimization_barrier(some)", "jax.lax.optimization_barrier(some[:, ::-1])", ACCELERATED),
    ("predict", "design.pretrain_on, shown[2].tobytes()", "design.pretrain_on", PREDICTION),
    ("predict", "design.pretrain_on, shown[2].tobytes()", "shown[2].tobytes()", PREDICTION),
    ("predict", "law = design.proxy.pairs, design.proxy.siamese", "law = design.proxy.siamese", PREDICTION),
    ("predict", "law, tuple(map(id, here))", "law", PREDICTION),
    ("predict", "np.asarray(jax.random.key_data(key)).tobytes(), law", "law", PREDICTION),
    ("once", "for old in list(self._answers)[: -self._most]:", "for old in list(self._answers)[: -1]:", PREDICTION),
    ("encoder", "_moved(last, axis, 1) + middle", "_moved(last, axis, -1) + middle", NETWORKS),
    ("probes", "2.0 * label - 1", "1 - 2.0 * label", SIMULATION),
    ("probes", "np.where(label == 1, -1, 1)", "np.where(label == 1, 1, -1)", LESSONS),
    ("labels", "(label + further) % k, label)", "label, (label + further) % k)", SIMULATION),
    ("labels", "order[label[order] == c][:n]", "order[label[order] == 0][:n]", SIMULATION),
    ("labels", "(design.flip_control, design.flip_case)", "(design.flip_case, design.flip_control)", LESSONS),
    ("labels", "== design.flip_in)", "!= design.flip_in)", LESSONS),
    ("labels", "len(cell) / len(count) / count", "count / len(cell)", LESSONS),
    ("labels", "count.max() - n", "count.max()", LESSONS),
    ("design", "return n - cases, cases", "return cases, n - cases", LESSONS),
    ("design", "strongest * strength", "strongest / strength", LESSONS),
    ("simulate", "np.concatenate([clean[None], probe(encoded)])", "np.concatenate([probe(encoded), clean[None]])", SIMULATION),
    ("metrics", "(below[lower] + below[upper]) / 2", "below[upper]", SCORES),
    ("metrics", "_share(above[..., label == 1]), _share(above[..., label == 0])", "_share(above[..., label == 0]), _share(above[..., label == 1])", SCORES),
    ("metrics", "worst / best", "best / worst", SCORES),
    ("metrics", "np.sqrt(robustness * fairness)", "(robustness + fairness) / 2", SCORES),
    ("metrics", "clean / (1 - chance), robustness", "clean, robustness", SCORES),
    ("metrics", "lost = cases.sum() - _below", "lost = _below", SCORES),
    ("metrics", "_summed(won - inner, owner[case], n_patients)", "_summed(won, owner[case], n_patients)", SCORES),
    ("metrics", "(np.cumsum(controls) - controls)[owner[case]]", "np.cumsum(controls)[owner[case]]", SCORES),
    ("metrics", "(cases.sum() - cases) * (controls.sum() - controls)", "cases.sum() * controls.sum()", SCORES),
    ("metrics", "np.sqrt(total * (n - 1) / np.maximum(n, 1))", "np.sqrt(total)", SCORES),
    ("metrics", "(square > 0).sum(-1), square.sum(-1)", "(square > -1).sum(-1), square.sum(-1)", SCORES),
    ("metrics", "np.where(fourth > 0, fourth, np.nan) - 1", "np.where(fourth > 0, fourth, np.nan)", SCORES),
    ("metrics", "known = (n > 1) & (degrees > 0)", "known = n > -1", SCORES),
    ("metrics", "stats.t.ppf(ndtr(bar), degrees) * error", "bar * error", SCORES),
    ("metrics", "own[high] - own[low])", "own[high])", SCORES),
    ("metrics", "who = rng.integers(0, len(size), len(size))", "who = np.arange(len(size))", SCORES),
    ("fit", "outcomes - explained(study, weights, foreign)", "outcomes + explained(study, weights, foreign)", TABLES),
    ("fit", "offset * sum_**2 / (1 + offset * ones)", "-offset * sum_**2 / (1 + offset * ones)", TABLES),
    ("fit", "(known.sum() - 1) * log_determinant", "-(known.sum() - 1) * log_determinant", TABLES),
    ("fit", "level + explained(study, weights, foreign)[which]", "level - explained(study, weights, foreign)[which]", TABLES),
    ("fit", "study.theory + foreign * study.abroad", "study.theory - foreign * study.abroad", TABLES),
    ("fit", "own * (1 + 1 / known.sum())", "own / known.sum()", TABLES),
    ("check", "(values.sum(0) - values) / (len(values) - 1)", "values.mean(0, keepdims=True) + 0 * values", TABLES),
    ("check", "1 - noise / total", "noise / total", TABLES),
    ("check", "1 - mae / np.abs(b1 - observed).mean()", "mae / np.abs(b1 - observed).mean()", TABLES),
    ("check", "r / np.sqrt(trust)", "r * np.sqrt(trust)", TABLES),
]  # fmt: skip


SAMPLING = [
    ("- _choose(n_tiles, n_drawn)", "+ _choose(n_tiles, n_drawn)"),
    ("(n_drawn - h <= n_tiles - n_carriers)", "(n_drawn - h >= n_tiles - n_carriers)"),
    ("jnp.sqrt(2.0 * n)", "jnp.sqrt(1.0 * n)"),
    ("ndtr(t) ** (n - h) * ndtr(t - gap) ** h", "ndtr(t) ** h * ndtr(t - gap) ** (n - h)"),
    ("(n * ndtr(t) ** (n - 1) * density)", "(n * ndtr(t) ** n * density)"),
    ("** h * silent ** (n - h)", "** h * silent**n"),
    ("1 - missed, 1 - silent**n", "1 - missed, silent**n"),
    ("carrier[None, :] ** h * clean[None, :] ** (n - h)", "carrier[None, :] ** h * clean[None, :] ** n"),
    ("jnp.imag(case * jnp.conj(clean) ** n)", "jnp.imag(case * clean**n)"),
    ("0.5 + jnp.trapezoid", "0.5 - jnp.trapezoid"),
    ("product / patch)", "product / patch**2)"),
    ("sets[h] + sets[h - 1] *", "sets[h] - sets[h - 1] *"),
    ("* ndtr(t) ** (n_drawn - h)", "* ndtr(t) ** n_drawn"),
    ("/ patch + 1) ** 2", "/ patch + 2) ** 2"),
    ("jnp.minimum(jnp.asarray(lesion) / patch, 1.0) ** 2", "jnp.minimum(jnp.asarray(lesion) / patch, 1.0)"),
    ("jnp.minimum(jnp.asarray(lesion) / patch, 1.0) ** 2", "(jnp.asarray(lesion) / patch) ** 2"),
    ("(impure_cases + impure_controls) / 2", "(impure_cases - impure_controls) / 2"),
    ("prevalence * miss / (1 - called)", "prevalence * miss / called"),
    ("(1 - 2 * flip)) @ gap", "(1 - flip)) @ gap"),
    ("1 - jnp.asarray(perimeter) * sigma", "1 + jnp.asarray(perimeter) * sigma"),
    ("y * (2 - y) - other", "y * (2 + y) - other"),
    ("jnp.exp((pixels - 1) *", "jnp.exp(pixels *"),
    ("(1 - y) * power) / seen", "(1 - y) * power)"),
    ("-variance / gap *", "variance / gap *"),
    ("jnp.sum(weight) ** 2 /", "jnp.sum(weight) /"),
    ("shift2 * (case - control) ** 2", "shift2 * (case - control)"),
    ("* place + pull / 2", "* place + pull"),
    ("- (case + control) / 2", "- (case - control) / 2"),
    ("sensitivity[1] - sensitivity[0]", "sensitivity[0] - sensitivity[1]"),
    ("(case + control) / 2 @ gap", "(case - control) / 2 @ gap"),
    ("+ (case - control) @ place", "- (case - control) @ place"),
    ("case / total_case + control / total_control", "case / total_case - control / total_control"),
    ("groups.cov + apart[..., :, None]", "groups.cov - apart[..., :, None]"),
    ("ndtr(-jnp.asarray(ahead) / error)", "ndtr(jnp.asarray(ahead) / error)"),
    ("+ jnp.square(jnp.asarray(ahead))", "- jnp.square(jnp.asarray(ahead))"),
]  # fmt: skip

LEARNING = [
    ("% 4 == 0", "% 2 == 0"),
    ("jnp.asarray(order) % 4 == 0, 0.0", "jnp.asarray(order) % 4 == 1, 0.0"),
    ("jnp.asarray(mean_power) / power", "power / jnp.asarray(mean_power)"),
    ("return between / (between + within)", "return within / (between + within)"),
    ("return shared / jnp.sqrt(mean", "return own / jnp.sqrt(mean"),
    ("(jnp.asarray(patches) - 1) * overlap", "(jnp.asarray(patches) + 1) * overlap"),
    ("strength**2 / (2 * temperature**2) - rho", "strength**2 / (2 * temperature**2) + rho"),
    ("(1 - first + redundancy * first)", "(1 - first - redundancy * first)"),
    ("first - 2 * covariance * outputs * size**2", "first + 2 * covariance * outputs * size**2"),
    ("(ridge * (variance + added) + other * added)", "(ridge * (variance + added) - other * added)"),
    ("jnp.asarray(strength) / start - 1", "jnp.asarray(strength) / start + 1"),
    ("target * (1 - jnp.exp(", "target * (1 + jnp.exp("),
    ("-2 * jnp.asarray(strength) * time", "-jnp.asarray(strength) * time"),
    ("(strength / jnp.asarray(start) - 1)", "(strength / jnp.asarray(start) + 1)"),
    ("-jnp.square(order * jnp.asarray(sigma))", "-jnp.square(order * jnp.asarray(sigma)) / 2"),
    ("filters, patch_cov, filters", "filters, patch_cov**2, filters"),
    ("patch @ (patch_second @ query_key).T", "patch @ (patch_second @ query_key)"),
    ("patch @ (patch_second @ query_key).T", "patch @ (query_key @ patch_second).T"),
    ("(direction @ basis) ** 2", "jnp.abs(direction @ basis)"),
    (" / jnp.sum(direction**2)", ""),
    ("jnp.linalg.svd(one.T @ two", "jnp.linalg.svd(one.T @ one"),
    ("share * separation2 / jnp.asarray(4.0)", "share * separation2 / jnp.asarray(2.0)"),
    ("clean**2 * half2 * (held + kappa)", "clean**2 * half2 * held"),
    ("noise / (n - df2)", "noise / n"),
    ("2 * pull * jnp.sqrt(half2), pull**2 + spread", "2 * pull * jnp.sqrt(half2), pull**2 - spread"),
]  # fmt: skip

EARLY = [
    ("weight[..., :1] + weight[..., 1:]", "weight[..., :1] - weight[..., 1:]"),
    ("p - label, z)", "label - p, z)"),
    ("(source_score - middle) / scale, np.ones", "source_score / scale, np.ones"),
    ("(np.take_along_axis(below, first, -1) + np.take_along_axis(below, last, -1)) / 2", "np.take_along_axis(below, last, -1)"),
    (" - (1 - p) / 2\n", "\n"),
    (" - (p * (1 - p)).sum(-1)\n", "\n"),
    ("np.cumsum(1 - p, -1)", "np.cumsum(p, -1)"),
    ("np.quantile(confident, 1 - right)", "np.quantile(confident, right)"),
    ("(confidence(foreseen) >= bar)", "(confidence(foreseen) <= bar)"),
    ("confidence(foreseen).mean(-1) - confident.mean()", "confident.mean() - confidence(foreseen).mean(-1)"),
    ("np.maximum(probability, 1 - probability)", "np.minimum(probability, 1 - probability)"),
    ("(clean > 0.5) == (label > 0.5)", "(clean < 0.5) == (label > 0.5)"),
    ('"L1": expected_auc(score, calibrated(source_score, score, label))', '"L1": expected_auc(score, foreseen)'),
    ('"CBE": expected_auc(score, foreseen)', '"CBE": expected_auc(score, calibrated(source_score, score, label))'),
    ("if min((source_label == c)", "if max((source_label == c)"),
    ("start = metrics.auc(source_score[0, 0], source_label)", "start = metrics.auc(score[0, 0], source_label)"),
]  # fmt: skip

PILOT = [
    ("weights[0] * effects[0] + weights[1] * effects[1]", "weights[1] * effects[0] + weights[0] * effects[1]"),
    ("np.nan_to_num(x - _mean(x))", "np.nan_to_num(x + _mean(x))"),
    ("_mean(np.concatenate([told, own]))", "told"),
    ("_mean(np.concatenate([told, own]))", "own"),
    ("np.isfinite(theory) | np.isfinite(seen), found", "np.isfinite(theory) & np.isfinite(seen), found"),
    ("ndtr(both + luck", "ndtr(both - luck"),
    ("min(steps, design.steps)", "max(steps, design.steps)"),
    ("jax.random.split(key, 3)[2]", "jax.random.split(key, 3)[1]"),
    ("if run.health.failed", "if not run.health.failed"),
    ("total / np.maximum(n, 1)", "total / len(x)"),
    ("np.where(n > 0, total", "np.where(n >= 0, total"),
]  # fmt: skip

VARIABILITY = [
    ("law", "jnp.where(severity > 0, altered, image)", "altered"),
    ("law", "size=len(severities) * _row(images), axis=1)", "size=len(severities) * _row(images), axis=1)[::-1]"),
    ("turns", "start_index=turn * few, axis=axis", "start_index=turn, axis=axis"),
    ("turns", "(column, turn * few, few)", "(column, 0 * turn, few)"),
    ("turns", "fori_loop(0, -(-n // few)", "fori_loop(0, n // few"),
    ("turns", "if turns <= 1 or", "if turns <= 10**9 or"),
    ("law", "happens = jax.random.uniform(key_happens, shape[:1]) < probability", "happens = jax.random.uniform(key_happens, shape[:1]) > probability"),
    ("law", "key, key_step = jax.random.split(key)", "_, key_step = jax.random.split(key)"),
    ("law", "image.astype(real(image)) / 255) + 0.5)", "image.astype(real(image)) / 255))"),
    ("law", "image.astype(real(image)) / 255", "image.astype(real(image)) / 256"),
    ("law", "moved = map_coordinates(mask, where, order=0", "moved = map_coordinates(mask, where, order=1"),
    ("law", "lines = [(2 * jnp.arange(n, dtype=dtype) + 1) / n - 1", "lines = [2 * jnp.arange(n, dtype=dtype) / n - 1"),
    ("law", "return [((x + 1) * n - 1) / 2", "return [(x + 1) * n / 2"),
    ("law", "vector / jnp.sqrt(jnp.sum(vector**2))", "vector / jnp.sum(vector**2)"),
    ("law", "jnp.float32, -1, 1)}", "jnp.float32, 0, 1)}"),
    ("intensity", "jnp.clip(image * jnp.exp(severity * drawn[\"z\"]), 0, 1)", "jnp.clip(image * (1 + severity * drawn[\"z\"]), 0, 1)"),
    ("intensity", "return _power(image, severity, severity * drawn[\"z\"])", "return _power(image, severity, drawn[\"z\"])"),
    ("intensity", "return _power(image, severity, sign * severity)", "return _power(image, severity, severity)"),
    ("intensity", "jnp.where(severity > 0, jnp.exp(log_power), 1)", "jnp.exp(log_power)"),
    ("intensity", "jnp.where(severity > 0, jnp.exp(log_power), 1)", "jnp.where(severity > 0, 1 + log_power, 1)"),
    ("intensity", "mean + (image - mean) * jnp.exp(sign * severity)", "mean + (image - mean) * jnp.exp(-sign * severity)"),
    ("intensity", "(image - 0.5 - level) / width + 0.5", "(image - 0.5 + level) / width + 0.5"),
    ("intensity", "(image - 0.5 - level) / width + 0.5", "(image - 0.5 - level) * width + 0.5"),
    ("intensity", "turned(image, drawn[\"u\"] < severity, False)", "turned(image, drawn[\"u\"] > severity, False)"),
    ("intensity", "[x, y, x * y, (3 * x**2 - 1) / 2, (3 * y**2 - 1) / 2]", "[x, y, x * y, (3 * x**2 - 1) / 2, (3 * y**2 + 1) / 2]"),
    ("intensity", "crossed = [x * y, x * z, y * z]", "crossed = [x * y, x * z, y * y]"),
    ("intensity", "(b - r) / safe + 2, (r - g) / safe + 4", "(b - r) / safe + 4, (r - g) / safe + 2"),
    ("intensity", "h, jnp.clip(s * jnp.exp(severity * drawn[\"z\"]), 0, 1), v", "h, jnp.clip(s * jnp.exp(-severity * drawn[\"z\"]), 0, 1), v"),
    ("intensity", "(amount * jnp.exp(severity * drawn[\"z\"])[None, None]) @ stains", "(amount * jnp.exp(severity * drawn[\"z\"])[None, None]) @ stains.T"),
    ("geometry", "sin * rows + cos * columns", "cos * columns - sin * rows"),
    ("geometry", "((1, 2), (2, 0), (0, 1))", "((2, 1), (0, 2), (1, 0))"),
    ("geometry", "* (jnp.tensordot(axis, position, 1) * (1 - cos))", "* (jnp.tensordot(axis, position, 1) * (1 + cos))"),
    ("geometry", "flipped = drawn[\"u\"] < severity", "flipped = drawn[\"u\"] > severity"),
    ("geometry", "turned(image, False, drawn[\"u\"] < severity)", "turned(image, drawn[\"u\"] < severity, False)"),
    ("linear", "jnp.flip(image, -2), image) * told[0]", "jnp.flip(image, 0), image) * told[0]"),
    ("geometry", "position + 2 * severity * _beside(drawn[\"direction\"], position)", "position + severity * _beside(drawn[\"direction\"], position)"),
    ("geometry", "return position + 2 * severity * field", "return position + 2 * severity * field[::-1]"),
    ("geometry", "position.at[-1].add(severity * drawn[\"z\"] * position[0])", "position.at[0].add(severity * drawn[\"z\"] * position[-1])"),
    ("geometry", "(1 - severity) * position + _beside(severity", "(1 - severity) * position + _beside(2 * severity"),
    ("noise", "jnp.sqrt(real**2 + imaginary**2)", "jnp.abs(real + imaginary)"),
    ("noise", "below += chance", "below = chance"),
    ("noise", "series += -(z / 36 + z**3 / 72) / root", "series += (z / 36 + z**3 / 72) / root"),
    ("noise", "+ 1 / 3 + z**2 / 6", "+ 1 / 2 + z**2 / 6"),
    ("noise", "jnp.exp(jnp.minimum(path, 8.0) / 2)", "jnp.exp(jnp.minimum(path, 8.0))"),
    ("noise", "image * (1 + severity * drawn[\"z\"])", "image + severity * drawn[\"z\"]"),
    ("noise", "white = (u * 2**23) % 2", "white = u < severity / 4"),
    ("resolution", "-(distance**2) / 2, axis=1", "-(distance**2), axis=1"),
    ("resolution", "-(distance**2) / 2, axis=1", "-(distance**2) / 2, axis=0"),
    ("resolution", "- distance + 0.5, 0, 1)", "- 0.5 * distance + 0.5, 0, 1)"),
    ("resolution", "share / share.sum()", "share / share.size"),
    ("resolution", "image.shape[:-1]) + 1) / 2 - far", "image.shape[:-1]) + 2) / 2 - far"),
    ("resolution", "severity * k / (ZOOMS - 1)", "severity * k / ZOOMS"),
    ("resolution", "shift = 0.5 * (n % 2)", "shift = 0.5 * ((n + 1) % 2)"),
    ("resolution", "shift = 0.5 * ((n + 1) % 2)", "shift = 0.5 * (n % 2)"),
    ("resolution", "(1 - share) * box(low) + share * box(low + 1)", "share * box(low) + (1 - share) * box(low + 1)"),
    ("resolution", "(drawn[\"u\"] * dims).astype(int), dims - 1", "(drawn[\"u\"] * dims).astype(int), dims - 2"),
    ("resolution", "rows[0] /= np.sqrt(2)", "rows[0] /= 2"),
    ("resolution", "tables.reshape(channels, 1, 1, 64)", "tables[::-1].reshape(channels, 1, 1, 64)"),
    ("resolution", "[-0.168736, -0.331264, 0.5]", "[-0.168736, 0.331264, 0.5]"),
    ("resolution", "jnp.where(severity > 0, share / share.sum(), alone)", "share / share.sum()"),
    ("resolution", "jnp.where(severity > 0, share / share.sum(), alone)", "jnp.where(severity > 0, share, alone)"),
    ("acquisition", "jnp.abs(jnp.fft.ifft(lines, axis=0))", "jnp.fft.ifft(lines, axis=0).real"),
    ("acquisition", "(place - at_centre)", "(place + at_centre)"),
    ("acquisition", "time[:, None] > jnp.sort(drawn[\"u\"])[None]", "time[:, None] > drawn[\"u\"][None]"),
    ("acquisition", "period = 2 + jnp.minimum", "period = 3 + jnp.minimum"),
    ("acquisition", "& (line != 0)", "& (line >= 0)"),
    ("acquisition", "3 + 5 * draw[0], jnp.pi * draw[1]", "3 + 5 * draw[0], -jnp.pi * draw[1]"),
    ("acquisition", "[jnp.sin(direction), jnp.cos(direction)]", "[jnp.cos(direction), jnp.sin(direction)]"),
    ("acquisition", "sine * cos + cosine * sin", "sine * cos - cosine * sin"),
    ("acquisition", "(line % period == 0) & (line != 0)", "line % period == 0"),
    ("acquisition", "tilt = jnp.pi * (draw[3] - 0.5)", "tilt = jnp.pi * draw[3]"),
    ("acquisition", "jnp.clip(0.5 + share * n / 2", "jnp.clip(1.5 + share * n / 2"),
    ("acquisition", "(jnp.asarray(waves, factor.dtype) @ factor)[", "2 * (jnp.asarray(waves, factor.dtype) @ factor)["),
    ("threefry", "jnp.uint32(i + 1)", "jnp.uint32(i)"),
    ("threefry", "lambda x, y: _normal(x ^ y)", "lambda x, y: _normal(x)"),
    ("threefry", "jnp.stack([_normal(x), _normal(y)])", "jnp.stack([_normal(x), _normal(x)])"),
    ("acquisition", "radius.ravel() * (n - 1) / 1.5", "radius.ravel() * (n - 1) / 1.42"),
    ("acquisition", "-jnp.logaddexp(-(path + inside), -STARVED)", "-jnp.logaddexp(-inside, -STARVED)"),
    ("projections", "jnp.sin(angle) * places[None, None, :, 0] + jnp.cos(angle)", "jnp.sin(angle) * places[None, None, :, 0] - jnp.cos(angle)"),
    ("acquisition", "-severity * path**2 / DENSE", "-severity * path / DENSE"),
    ("acquisition", "(1 - severity - jnp.abs(detectors(n)))", "(1 - severity - detectors(n))"),
    ("obstruction", "jax.nn.sigmoid((seen.depth - start) * 12)", "jax.nn.sigmoid((start - seen.depth) * 12)"),
    ("obstruction", "jnp.where(seen.fanned, 0.1, 0.15 * (seen.depth - start))", "jnp.where(seen.fanned, 0.1, -0.15 * (seen.depth - start))"),
    ("obstruction", "severity * drawn[\"sign\"] * beams(image).depth", "severity * drawn[\"sign\"] * beams(image).across"),
    ("obstruction", "severity**echo", "severity"),
    ("obstruction", "(row - echo * (0.12", "(row + echo * (0.12"),
    ("obstruction", "jnp.maximum(1 - jnp.abs(source - row[None]), 0)", "1.0 * (jnp.abs(source - row[None]) < 0.5)"),
    ("obstruction", "1.5 * (1 - severity), jnp.inf", "1.42 * (1 - severity), jnp.inf"),
    ("marks", "severity * most - jnp.arange(most", "severity * most + jnp.arange(most"),
    ("marks", "jnp.ceil(jnp.clip(severity, 0, 1) * most)", "jnp.floor(jnp.clip(severity, 0, 1) * most)"),
    ("marks", "profile(far - mark[\"size\"])", "profile(far + mark[\"size\"])"),
    ("marks", "part * some, start", "part + some - 1, start"),
    ("marks", "jnp.clip(x - size // 2, 0, n - size)", "jnp.clip(x - size // 2, 0, n - 1)"),
    ("marks", "jnp.clip(x - size // 2, 0, n - size)", "jnp.clip(x - size // 4, 0, n - size)"),
    ("marks", "math.ceil(reach * n) + 2", "math.ceil(reach * n / 2) + 2"),
    ("obstruction", "+ bow * right) ** 2 + (column - x - share * right - bow * down)", "- bow * right) ** 2 + (column - x - share * right + bow * down)"),
    ("marks", "top, left = stamp[\"corner\"]", "left, top = stamp[\"corner\"]"),
    ("marks", "half = (rows / 2 * cell, columns / 2 * cell)", "half = (columns / 2 * cell, rows / 2 * cell)"),
    ("obstruction", "CELL = 0.28 / 5", "CELL = 0.28 / 3"),
    ("obstruction", "1 - 2 * severity - edge", "1 - severity - edge"),
    ("obstruction", "centre = drawn[\"u\"][axis] * (1 - severity)", "centre = drawn[\"u\"][axis]"),
    ("obstruction", "along(on_beams(image, seen), reached, 0)", "along(image, reached, 0)"),
    ("beams", "a + slope * apex_row", "a - slope * apex_row"),
    ("beams", "jnp.where(is_arc, -fall, 1)", "jnp.where(is_arc, 1, 1)"),
    ("beams", "row <= widest", "row >= widest"),
    ("beams", "far * turn / view.aspect", "far * turn * view.aspect"),
    ("beams", "jnp.where(framed[..., None], sample(image, seen.places), 0)", "sample(image, seen.places)"),
    ("projections", "(along**2 + across**2 <= 1)", "(along**2 + across**2 <= 2)"),
    ("projections", "jnp.cos(angle) * along + jnp.sin(angle) * across", "jnp.cos(angle) * along - jnp.sin(angle) * across"),
    ("projections", "total * jnp.pi / views", "total / views"),
    ("projections", "-1 / (np.pi * odd) ** 2, 0.0", "1 / (np.pi * odd) ** 2, 0.0"),
]  # fmt: skip


DICE, MASKS = ("test_dice_is_counted_right",), ("test_masks_move_with_their_images",)
SEGMENTED, POOR = ("test_segmentation_learns_and_is_foreseen",), ("test_poor_masks_are_still_masks",)
SEGMENTATION = [
    ("dice", "2 * called[..., 1]", "called[..., 1]", DICE),
    ("dice", "called.sum(-1) + inside", "called[..., 1] + inside", DICE),
    ("dice", "np.cumsum(control, -1) - control / 2", "np.cumsum(control, -1)", DICE),
    ("dice", "return share[..., 1], share[..., 0]", "return share[..., 0], share[..., 1]", DICE),
    ("dice", "side=\"right\"", "side=\"left\"", DICE),
    ("dice", "np.where(inside > 0, 2", "np.where(inside >= 0, 2", DICE),
    ("dice", '*found["dice"], level, chance)', '*found["dice"], level)', DICE),
    ("dice", "owner != np.arange", "owner == np.arange", DICE),
    ("dice", "(v[0], np.moveaxis(v[1:], 0, -1))", "(v[1], np.moveaxis(v[1:], 0, -1))", DICE),
    ("dice", "2**16 else", "2**20 else", DICE),
    ("masks", "2 * share / (1 + share)", "share", DICE),
    ("masks", "share = share[share > 0]", "share = share[share >= 0]", DICE),
    ("masks", "rng.choice(there, min(half, len(there)), replace=False)", "there[:half]", MASKS),
    ("masks", "np.flatnonzero(mask == c)", "np.flatnonzero(mask != c)", MASKS),
    ("masks", "jax.random.split(key, len(masks)), masks)", "jax.random.split(key, 2 * len(masks))[::2], masks)", MASKS),
    ("segment", "0.5 / (label == 1).sum()", "0.5 / (label == 0).sum()", SEGMENTED),
    ("segment", "float(-centre @ weight)", "float(centre @ weight)", SEGMENTED),
    ("segment", "held = validation if", "held = test if", SEGMENTED),
    ("dice", "~np.isfinite(flat)", "np.isnan(flat) & False", DICE),
    ("segment", "ended(network, head, cohorts.pixels(labelled))", "health(features(network, cohorts.pixels(labelled)))", SEGMENTED),
    ("contours", "np.where(inside, 0.5, -0.5)", "np.where(inside, -0.5, 0.5)", POOR),
    ("contours", "sigma * field(", "2 * sigma * field(", POOR),
    ("contours", "SMOOTH * sigma)", "0.3 * sigma)", POOR),
    ("contours", "np.sqrt((smooth[1] ** 2).sum())", "smooth[1].sum()", POOR),
    ("contours", "rng.random(n) >= probability", "rng.random(n) < probability", POOR),
    ("contours", "(share >= 0.5)", "(share > 0.7)", POOR),
    ("contours", "== design.flip_in if", "!= design.flip_in if", POOR),
    ("contours", "[*seed, int(i), purpose]", "[int(i), purpose]", POOR),
    ("segment", "rate = np.repeat(flip_rate(design, labelled), label.shape[1])[known]", "rate = design.label_flip", POOR),
    ("segment_predict", "n_images * each / (1 +", "n_images * each * (1 +", SEGMENTED),
    ("charts", "shared = max(between - within, 0.0)", "shared = max(between, 0.0)", SEGMENTED),
    ("segment_predict", "place[jnp.argmax(overlap)]", "middle", SEGMENTED),
    ("segment_predict", "probit(measured) - probit(stated)", "probit(stated) - probit(measured)", SEGMENTED),
]  # fmt: skip


SCORED, FORESEEN = ("test_several_questions_are_scored_right",), ("test_several_questions_are_foreseen_exactly",)
REFUSED = ("test_several_questions_refuse_bad_input",)
SEVERAL = [
    ("asked", "np.arange(n)[:, None] >= np.arange(1, n)[None]", "np.arange(n)[:, None] <= np.arange(1, n)[None]", SCORED),
    ("asked", ">> np.arange(n)[None] & 1", ">> np.arange(n)[None][:, ::-1] & 1", SCORED),
    ("asked", "== 2 for column", ">= 1 for column", REFUSED),
    ("classes", "order[table[:, order].argmax(1)]", "order[table[:, order[::-1]].argmax(1)]", SCORED),
    ("classes", "sum(2**place for place in places)", "sum(2**place for place in places[:1])", SCORED),
    ("classes", "if gaps:", "if not gaps:", REFUSED),
    ("classes", "min(have.sum(), (~have).sum()) < fewest", "have.sum() < fewest - 1", REFUSED),
    ("labels", "(label + further) % k", "(label + 1) % k", SCORED),
    ("labels", "label ^ wrong @ 2 ** np.arange(k)", "label ^ wrong @ 2 ** np.arange(k)[::-1] * 0", SCORED),
    ("probes", "weight / np.bincount(stratum, weight)[stratum]", "weight", SCORED),
    ("probes", "y - np.average(y, 0, alike)", "y", SCORED),
    ("probes", "[case - control for control, case in sides]", "[control - case for control, case in sides]", SCORED),
    ("proxies", "jnp.asarray(answers, image.dtype)[label]", "jnp.asarray(answers, image.dtype)[::-1][label]", SCORED),
    ("simulate", "each = zip(np.moveaxis(scores, -1, 0), answers.T, bars", "each = zip(np.moveaxis(scores, -1, 0), answers.T[::-1], bars", SCORED),
    ("simulate", "share = 1.0 if findings", "share = 0.5 if findings", SCORED),
    ("simulate", "for v, yes in each])", "for yes, v in each])", SCORED),
    ("metrics", "lower = grade == high, grade < high", "lower = grade == high, grade > high", SCORED),
    ("metrics", "won + n * auc(score", "won + auc(score", SCORED),
    ("metrics", "np.min([getattr(one, name) for one in each], axis=0)", "np.max([getattr(one, name) for one in each], axis=0)", SCORED),
    ("metrics", "(np.mean(areas, axis=0) for areas in zip", "(np.max(areas, axis=0) for areas in zip", SCORED),
    ("study", "return np.mean([of(question) for question", "return np.max([of(question) for question", SCORED),
    ("unequal", "1 - jnp.sum(cross * pull + kappa * pull * pull, axis=0)", "1 - jnp.sum(cross * pull - kappa * pull * pull, axis=0)", FORESEEN),
    ("unequal", "(2 * (n - df2))", "(2 * n)", FORESEEN),
    ("unequal", "classes / (classes - 1))", "2)", FORESEEN),
    ("unequal", "kept**2 * variance + flip * (1 - flip)", "variance", FORESEEN),
    ("unequal", "gap = mean[..., :, None, :] - mean[..., None, :, :]", "gap = mean[..., None, :, :] - mean[..., :, None, :]", FORESEEN),
    ("unequal", "won = auc(gap, variance[..., :, None, :], variance[..., None, :, :])", "won = auc(gap, variance[..., :, None, :], variance[..., :, None, :])", FORESEEN),
    ("unequal", '"...i,...j,qij,...ijq->...q", count, count, above, won', '"...i,...j,qij,...ijq->...q", count, count**0, above, won', FORESEEN),
    ("classes_predict", "yes[:, :, None] * no[:, None, :]", "no[:, :, None] * yes[:, None, :]", FORESEEN),
    ("classes_predict", "np.tri(len(asked.names), k=-1)[None]", "np.tri(len(asked.names), k=0)[None]", FORESEEN),
    ("classes_predict", "around[..., None] * noise", "0 * around[..., None] * noise", SCORED),
    ("classes_predict", "within + wander[..., None] * noise + (count", "within + (count", SCORED),
    ("classes_predict", "probit(measured) - probit(stated)", "probit(stated) - probit(measured)", SCORED),
    ("classes_predict", "(_mean(x[column > 0]) + _mean(x[column <= 0])) / 2", "_mean(x[column > 0])", SCORED),
    ("predict", "np.flatnonzero(stratum == c)[:n] for c, n in enumerate(each)", "np.flatnonzero(stratum == c)[:n] for c, n in enumerate(each[:2])", SCORED),
    ("theory", "moments.mean - jnp.mean(moments.mean, -2, keepdims=True)", "moments.mean", FORESEEN),
]  # fmt: skip


def caught(copy: Path, module: str, old: str, new: str, tests: tuple[str, ...]) -> bool:
    """Whether a test fails when ``old`` is replaced by ``new`` in a module of the copied package.

    First those that name the function, which are few and most often enough; then all that answer for the module.
    """
    place = copy / "rafmodel" / f"{module}.py"
    sound = place.read_text()
    if sound.count(old) != 1:
        raise SystemExit(f"{module}.py: '{old}' is there {sound.count(old)} times, not once; mend the list of mutants")
    function = re.findall(r"^def (\w+)", sound[: sound.index(old)], re.MULTILINE)[-1:]
    files = [f"tests/{name}.py" for name in tests]
    place.write_text(sound.replace(old, new))
    try:
        near = [test for file in files for name in function for test in naming(copy, file, name)]
        return (bool(near) and fails(copy, near)) or fails(copy, files)
    finally:
        place.write_text(sound)


def naming(copy: Path, file: str, function: str) -> list[str]:
    """The tests of a file in whose text a function is named."""
    text = (copy / file).read_text()
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"]
    segments = {node.name: ast.get_source_segment(text, node) or "" for node in nodes}
    return [f"{file}::{name}" for name, segment in segments.items() if re.search(rf"\b{function}\b", segment)]


def fails(copy: Path, tests: list[str]) -> bool:
    """Whether one of the tests fails on the copy, in a fork of this process, which has loaded what takes long to load."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as fork:
        try:
            code, said = fork.submit(tried, copy, tests).result()
        except BrokenExecutor:  # machine code that reads where it must not
            return True
    if code not in (0, 1):  # 1: tests ran and some failed
        raise SystemExit(f"pytest ended with {code} on {tests}\n{said[-2000:]}")
    return code == 1


def tried(copy: Path, tests: list[str]) -> tuple[int, str]:
    """The code that pytest ends with, and what it said."""
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    os.chdir(copy)
    with io.StringIO() as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
        return int(code), said.getvalue()


def load() -> None:
    """Import what the tests need and no mutant changes, with the settings of the tests."""
    compiled = ROOT / ".pytest_cache" / "compiled"  # keyed by the program itself: only what the mutant changes is new
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(compiled)
    sys.path = [place for place in sys.path if Path(place or ".").resolve() not in (ROOT, ROOT / "tests")]
    runpy.run_path(str(ROOT / "tests" / "conftest.py"))
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # no device has been asked for yet
    for library in (
        "jax.numpy",
        "jax.scipy.ndimage",
        "flax.nnx",
        "optax",
        "numpyro",
        "scipy.stats",
        "sklearn",
        "sympy",
        "xarray",
    ):
        importlib.import_module(library)


def remembered(kept: Path | None) -> set[tuple[str, str, str]]:
    """Mutants that a former run caught."""
    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    return {tuple(mutant) for fate, *mutant in map(json.loads, lines) if fate == "caught"}


def main(which: str, kept: Path | None) -> None:
    """Print each mutant's fate and the share that was caught."""
    mutants = LISTS[which]
    missed, known = [], remembered(kept)
    load()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        ignored = shutil.ignore_patterns(".*", "runs", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=ignored)
        for number, (module, old, new, tests) in enumerate(mutants, 1):
            found = (module, old, new) in known or caught(copy, module, old, new, tests)
            fate = "caught" if found else "MISSED"
            missed += [] if found else [(module, old, new)]
            print(f"{number:3d} {fate}  {module}: {old!r} -> {new!r}", flush=True)
            if kept and (module, old, new) not in known:
                with kept.open("a") as file:
                    file.write(json.dumps([fate, module, old, new]) + "\n")
    print(f"{len(mutants) - len(missed)} of {len(mutants)} mutants of the {which} caught")


EXPERIENCE = [
    ("edge=0.02", "edge=1e-6"),
    ("share * (_centred(known, names) - ", "share * (_centred(known, names) + "),
    ("share * (_centred(known, names) - ", "share * (known - "),
    ("ndtri(auc) + move", "ndtri(auc) - move"),
    ('there["auc"] - _mean(there["auc"], "design")', 'there["auc"]'),
    ('return _mean(apart, "cohort")', 'return apart.sum("cohort")'),
    ("np.sqrt(mine / theirs)", "np.sqrt(theirs / mine)"),
    ("np.sqrt(mine / theirs)", "mine / theirs"),
    ("+ _AS_MANY * _USUAL**2", ""),
    ("n * np.square(effect)", "np.square(effect)"),
    ("z - _over(z, both, (1,)), 0)", "z, 0)"),
    ("np.isfinite(here) & np.isfinite(there)", "np.isfinite(there)"),
    ("probit(here)[[name == one for one in names]].mean(0)", "probit(here)[names.index(name)]"),
    ("SHARE = 0.5", "SHARE = 0.6"),
    ("not _related(mine, name)", "mine != name"),
    ("any(one.startswith(f) and other.startswith(f) for f in _ONE)", "False"),
    ("theirs != source or source in _UNSTATED", "theirs != source"),
    ("theirs != source or source in _UNSTATED", "True"),
    ("(asked, judged) == (task(study), metric(study))", "True"),
    ('(kind - _mean(kind, "kind"))[which].values', '(rows - _mean(rows, "design")).values'),
    ("z if z.ndim == 3 else z[..., 0]", "z if z.ndim == 3 else z[..., -1]"),
    ("np.where(np.isfinite(known), everyone, np.nan)", "everyone"),
    ("values.sum(over) / n.where(n > 0)", "values.sum(over) / n.max()"),
]
AMOUNTS = [
    ("[cos, -sin], [sin, cos]", "[cos, sin], [-sin, cos]"),
    ("np.exp(-before[:, POSE.stop - 1])", "np.exp(before[:, POSE.stop - 1])"),
    ("moved - before[:, FIELD] + amount", "amount"),
    ("amount[:, FIELD] * np.exp(-before[:, [GAMMA]])", "amount[:, FIELD]"),
    (
        "(bent - 1) * before[:, GAIN] + bent * np.exp(before[:, GAMMA]) * level\n    through",
        "(bent - 1) * before[:, GAIN]\n    through",
    ),
    (
        "(bent - 1) * before[:, GAIN] + bent * np.exp(before[:, GAMMA]) * level\n    through",
        "bent * np.exp(before[:, GAMMA]) * level\n    through",
    ),
    ("0.5 * np.log(kept + (", "0.5 * np.log((1 + 0 * kept) + ("),
]
IMAGE_STATES = [
    ("detectors", "(before <= threshold).all(1)", "(before <= threshold).any(1)"),
    ("injection", "(response_error <= UNSURE * response)", "(response_error >= UNSURE * response)"),
    ("detectors", "first[i], levels[j]", "first[j], levels[j]"),
    ("state", "images + (1 - _uncut(1 - _uncut(mean, grain), grain) - mean)", "images"),
    ("state", "images + (1 - _uncut(1 - _uncut(mean, grain), grain) - mean)", "images + (_uncut(mean, grain) - mean)"),
    ("state", "value * ndtr(value) + jnp.exp(", "value * ndtr(value) - jnp.exp("),
    ("state", "jnp.minimum(deviation, jnp.sqrt(", "jnp.maximum(deviation, jnp.sqrt("),
    ("detectors", "(part[0] @ above**power + narrow**power) / (part[0].sum() + 1)", "(above**power).mean()"),
    ("detectors", "np.log(np.maximum(tail / false, 2))", "np.log(np.maximum(false / tail, 2))"),
    ("detectors", "(injected[0] <= threshold[:, None])", "(injected[0] > threshold[:, None])"),
    ("detectors", "product((1, 2),", "product((2,),"),
    ("detectors", "(line[:-2] + line[2:]) / 2 - line[1:-1]", "line[1:-1] - (line[:-2] + line[2:]) / 2"),
    ("detectors", "np.arange(_BLOCK - 1, len(step), _BLOCK)", "np.arange(_BLOCK, len(step), _BLOCK)"),
    ("detectors", "jnp.max(jnp.min(below, 0))", "jnp.max(jnp.max(below, 0))"),
    ("detectors", "jnp.max(below[1] - jnp.maximum(below[0], 0))", "jnp.max(below[1])"),
    ("detectors", "(jnp.sum(jnp.sum(fine, 0) ** 2) - own)", "jnp.sum(jnp.sum(fine, 0) ** 2)"),
    ("detectors", "jnp.sum(lit * (image < _BLACK))", "jnp.sum(image < _BLACK)"),
    ("detectors", "jnp.hypot(rows, columns) > 1.28", "jnp.hypot(rows, columns) < 1.28"),
    ("detectors", "jnp.min(jnp.stack([jnp.sum(one * black)", "jnp.max(jnp.stack([jnp.sum(one * black)"),
    ("detectors", "sides += [turned[:deep].mean(), turned[-deep:].mean()]", "sides += [turned[:deep].mean()]"),
]

REMADE = [
    ("remade", "unsure**2 + AT_BEST**2", "unsure**2"),
    ("remade", "np.log(np.maximum(share, 0.5)) - made", "np.log(np.maximum(share, 0.5)) + made"),
    ("remade", "np.where(found.undo != 0, seen - put, 0.0)", "np.where(found.undo != 0, put - seen, 0.0)"),
    ("remade", "tried.misread[1:, group == g]", "tried.misread[:, group == g]"),
    ("remade", "wrong - np.where(_FREE, wrong[base], 0.0)", "wrong - np.where(_FREE, 0 * wrong[base], 0.0)"),
    ("remade", "wrong - np.where(_FREE, wrong[base], 0.0)", "wrong - wrong[base]"),
    ("remade", "(states - wrong) * _FREE", "(states + 3 * wrong) * _FREE"),
    ("remade", "put[:, BLUR] + lacking", "put[:, BLUR]"),
    ("remade", "state.reference(again)._replace", "reference._replace"),
    ("remade", " / total, 0)) * told", " / total, 0))"),
    ("remade", "whole / part)), LIKELY", "part / whole)), LIKELY"),
    ("sharpening", "(passed * (1 + LEFT) / (passed**2 + LEFT))", "passed"),
    ("sharpening", "_CLIPPED - smooth", "smooth - _CLIPPED"),
    ("sharpening", "np.argmin((np.stack(tried)", "np.argmax((np.stack(tried)"),
    ("sharpening", "matched(one, reference.middle", "matched(template, reference.middle"),
    ("appearance", "jnp.maximum(least + x[11]", "jnp.maximum(WIDTH**2 + x[11]"),
    ("appearance", "scale[None], rest * power", "scale[None], rest"),
    ("injection", "number >= FEW", "number < FEW"),
]


PREVALENCE = [
    ("silent @ quiet.T", "0 * silent @ quiet.T"),
    ("apart, jnp.log(calls.likely) + itself)", "apart, jnp.log(calls.likely) + 0 * itself)"),
    ("apart, jnp.log(calls.likely) + itself)", "apart, apart)"),
    ("np.where(pattern == 1, often, 1 - often)", "np.where(pattern == 0, often, 1 - often)"),
    ("seen[seen >> j & 1 == call]", "seen[seen >> j & 1 != call]"),
    ("enumerate(worth.paired, 1 + n)", "enumerate(worth.alone[:1], 1 + n)"),
    ("sensitive[:, None], calls.crossed)", "sensitive[:, None], calls.crossed.T)"),
    ("calls.found < calls.tried / 2", "calls.found < 0"),
    ("calls.hits * there[size:]", "calls.hits * absent[size:]"),
    ("np.add.at(total, (which.reshape(-1), code), weight)", "np.add.at(total, (which.reshape(-1), code), 1)"),
    ("calls.found + 0.5, calls.tried - calls.found + 0.5", "calls.tried - calls.found + 0.5, calls.found + 0.5"),
    ("range(TOGETHER + 1)", "range(TOGETHER)"),
    ("1 / calls.false - 1", "1.0"),
    ('_WIDE * _drawn("between"', '0.1 * _drawn("between"'),
]


CONVOLUTIONS = [
    ("machine_code", "+ y + 1) * line + channels", "+ y) * line + channels"),
    ("machine_code", "clear(to, n * (depth + 2 * deep) * (height + 2) * line)", "clear(to, line)"),
    (
        "machine_code",
        "z * stride) * (job[SPACE + 1] + 2) + y * stride) * row",
        "z) * (job[SPACE + 1] + 2) + y * stride) * row",
    ),
    ("machine_code", "(line + x * stride * job[CHANNELS])", "(line + x * job[CHANNELS])"),
    ("machine_code", "(k // 3 * (job[SPACE + 1] + 2) + k % 3)", "(k % 3 * (job[SPACE + 1] + 2) + k // 3)"),
    (
        "machine_code",
        "job[WEIGHT] + 4 * k * 3 * channels * width",
        "job[WEIGHT] + 4 * (8 - k) % 3 * 3 * channels * width",
    ),
    ("machine_code", "clear(answer, many * width)", "clear(answer, width)"),
    ("machine_code", "clear(image, most * channels)", "clear(image, channels)"),
    ("machine_code", "py + 1 - tap // 3 % 3", "py - 1 + tap // 3 % 3"),
    ("machine_code", "z // stride + deep) * down", "z // stride) * down"),
    ("machine_code", "range(px, long, stride)", "range(1 - px, long, stride)"),
    ("machine_code", "y % stride == 0 and x % stride == 0", "y % stride == 0"),
    ("machine_code", "job[WEIGHT] + 4 * tap * width * channels", "job[WEIGHT] + 4 * (8 - tap) * width * channels"),
    ("machine_code", "job[WEIGHT] + 4 * (part * depth + k) * width", "job[WEIGHT] + 4 * k * width"),
    ("machine_code", "n = min(at_once, end - first)", "n = at_once"),
    ("jobs", "r += ROWS if full else 1", "r += ROWS"),
    ("machine_code", "if job[KIND] == AHEAD:", "if job[KIND] != BACK:"),
    ("jobs", "while add(address + 8 * DONE, 0) < parts:", "while False:"),
    ("jobs", "add(address + 8 * USERS, -1) == 1", "add(address + 8 * USERS, -1) >= 1"),
    (
        "instructions",
        "if fresh else builder.load(ends[r][v], align=4)",
        "if True else builder.load(ends[r][v], align=4)",
    ),
    ("instructions", "behind(here, 4 * r if by_place", "behind(here, 0 if by_place"),
    ("native", ".transpose(0, 2, 1)", ".transpose(0, 1, 2)"),
    ("native", "[parts[i] for i in range(shape[0])]", "[parts[i] for i in range(1, shape[0])]"),
    ("native", "x.dtype == weight.dtype == jnp.float32", "x.dtype == jnp.float32"),
    ("native", "np.int64(3 if dims == 3 else 1)", "np.int64(1)"),
    ("encoder", "if by_code and x.shape[-1] % native.EVEN == 0", "if by_code and x.shape[-1] % 4 == 0"),
]
IMAGES = [  # how images are altered by machine code
    ("image_jobs", "if own[axis] != 1:", "if True:"),
    ("image_jobs", "place += b % all_[axis] * step", "place += b * step"),
    ("image_jobs", "step *= own[axis]", "step *= 1"),
    ("image_products", "number[stop - 1] == 0", "number[stop - 1] != 0"),
    ("image_products", "start, stop = min(start, begins[k]), max(stop, ends[k])", "start, stop = begins[k], ends[k]"),
    ("image_products", "(slab % outer * side * inner + column)", "column"),
    ("image_products", "width = min(PANEL, inner - column)", "width = min(PANEL, inner)"),
    ("image_products", "unit % panels * PANEL", "unit % panels * 16"),
    ("image_products", "clear(row[k], wide)", "clear(row[k], 0)"),
    ("image_products", "if stop <= start:", "if False:"),
    ("image_products", "low[g], high[g] = min(low[g], k), k + 1", "low[g], high[g] = min(low[g], k), k"),
    ("image_products", "outer - unit % outer)", "outer)"),
    ("image_products", "one[k] = pixel[k * inner]", "one[k] = pixel[k]"),
    ("image_points", "x if x > types.float32(0) else", "x if x > types.float32(1) else"),
    ("image_points", "x if x < last else last", "x"),
    ("image_points", "channels if width > 1 else 0", "channels"),
    ("image_points", "pixel if pixel < before else before", "pixel"),
    ("image_points", "plane if depth > 1 else 0", "line if depth > 1 else 0"),
    ("image_points", "return top * up + y * down", "return top * up + x * down"),
    ("image_points", "* near + zs[j] * far", "* far + zs[j] * near"),
    ("image_points", "min(min(end - unit, points - i), BLOCK)", "min(end - unit, BLOCK)"),
    ("image_points", "clear(scratch, n)", "clear(scratch, 1)"),
    ("image_kernels", "kernel[here] if i >= -reach[0] else", "kernel[here] if i > -reach[0] else"),
    ("image_kernels", "place[many] = i * plane", "place[many] = -i * plane"),
    ("image_kernels", "found[2] = max(found[2], abs(k - k2 // 2))", "found[2] = max(found[2], k - k2 // 2)"),
    ("image_kernels", "row = before + 4 * j * wide", "row = before"),
    ("image_kernels", "start - reach[0] - 1, stop", "start - reach[0], stop"),
    ("image_kernels", "j * line + k * pixel", "j * line + k"),
    ("image_kernels", "level[k] = nearest(one[k])", "level[k] = types.uint8(one[k])"),
    ("image_kernels", "range(c, start, channels)", "range(start)"),
    ("image_kernels", "range(-reach[1], reach[1] + 1)", "range(-reach[1], reach[1])"),
    ("image_kernels", "image + depth * (min", "image + 4 * (min"),
    ("image_kernels", "wide + 2 * reach[2] * channels", "wide + 2 * reach[2]"),
    ("image_kernels", "(min(max(i, 0), n0 - 1) * n1", "(i % n0 * n1"),
    ("image_kernels", "one[stop - channels + c]", "one[start + c]"),
    ("image_kernels", "if kernel != known:", "if known == 0:"),
    ("image_marks", "mark[3 * m + 2] + reach, height)", "mark[3 * m + 2], height)"),
    ("image_marks", "half = math.sqrt(max((size + reach) * (size + reach) - y * y", "half = math.sqrt(max(size * size - y * y"),
    ("image_marks", "before > 0 else 0", "before > 0 else 1"),
    ("instructions", "builder.fmul(all_shown, cover", "builder.fmul(one, cover"),
    ("instructions", "fused(way, columns[2 * f + 1], columns[2 * f])", "fused(way, columns[1], columns[2 * f])"),
    ("instructions", "columns[2 * f + 1], columns[2 * f])", "columns[2 * f + 1], columns[0])"),
    ("instructions", "[2 * (k % 2) + i for i in (0, 1, 4, 5)]", "[i for i in (0, 1, 4, 5)]"),
    ("instructions", "[k, 2 + k, 4 + k, 6 + k]", "[k, 2 + k, 2 + k, 6 + k]"),
    ("instructions", "builder.fcmp_ordered(\"<\", far, end), far, end)", "builder.fcmp_ordered(\"<\", far, end), far, far)"),
    ("instructions", "builder.add(n, ir.Constant(_WORD, LANES - 1))", "builder.add(n, ir.Constant(_WORD, 0))"),
    ("instructions", "fused(x, x, above)", "fused(x, x, x)"),
    ("image_marks", "types.float32(1)), along)) - 1)", "types.float32(1)), along)) + 1)"),
    ("image_marks", "4 * (m * rows + r) * columns)", "4 * (m * rows + r) * rows)"),
    ("image_marks", "ink, start = shown[m] * raster[c]", "ink, start = raster[c]"),
    ("image_marks", "and shown[m] * raster[c] == ink", "and raster[c] > 0"),
    ("image_marks", "range(row[r], row[r + 1])", "range(row[r], row[r + 1] - 1)"),
    ("image_marks", "column[c] * channels - start, depth", "column[c] - start, depth"),
    ("image_marks", "scale * one[c]", "scale * one[0]"),
    ("image_marks", "- corner) / cell < c", "- corner) / cell <= c - 1"),
    ("image_marks", "goal + (x - goal) * share", "goal + x * share"),
    ("image_marks", "_uncovered(field + f * apart, 0, end - start)", "_uncovered(field, 0, end - start)"),
    ("image_marks", "scratch + 4 * (f * wide + first))", "scratch + 4 * first)"),
    ("image_marks", "min(first, end), fields", "first, fields"),
    ("image_marks", "types.float32(255) if job[DEPTH] == 1 else", "types.float32(256) if job[DEPTH] == 1 else"),
    ("image_marks", "inner = radius + soft, radius - soft", "inner = radius + soft, radius + soft"),
    ("image_marks", "min(circle[2], types.float32(FAR))", "circle[2]"),
    ("image_marks", "* share + types.float32(0.5))", "* share)"),
    ("image_marks", "x[k] * (types.float32(1) - share * hides[k])", "x[k] * (types.float32(1) - hides[k])"),
    ("image_marks", "line, plane * row[j])\n            continue", "line, row[j])\n            continue"),
    ("image_marks", "again(made, image, n1 * line)", "again(made, image, line)"),
    ("image_marks", "_for_channels(at(job, 3, b, n2), n2, channels, column)", "_for_channels(at(job, 3, b, n2), n2, 1, column)"),
    ("image_marks", "if plane * row[j] > 0:", "if row[j] > 1:"),
    ("image_marks", "+ depth * i * n1 * line\n", "\n"),
    ("image_marks", "goal[k], share[k]), goal_[k], share_[k]))", "goal[k], share[k]), goal[k], share_[k]))"),
    ("image_marks", "_toward(_toward(number[k], goal[k], share[k]), goal_[k], share_[k])", "_toward(number[k], goal_[k], share_[k])"),
    ("image_marks", "nearest(types.float32(x[k]) * (types.float32(1) - share * hides[k]))", "nearest(types.float32(x[k]) * (types.float32(1) - hides[k]))"),
    ("image_marks", "depth == 1 and ink == 1:", "depth == 1 and ink > 0.3:"),
    ("image_tones", "types.float32(255) * added", "added"),
    ("image_tones", "row + n2 - 1, to, n2, -1", "row, to, n2, 1"),
    ("image_tones", "row + 4 * (n2 - even)", "row"),
    ("image_tones", "numbers(row)[n2 - 1 - k]", "numbers(row)[k]"),
    ("image_tones", "depth * i * size, job[MADE]", "0 * i * size, job[MADE]"),
    ("image_tones", "even = size - size % LANES", "even = size"),
    ("image_powers", "every(-126.0)", "every(-12.0)"),
    ("image_powers", "builder.sub(word, every(ROOT_HALF))", "word"),
    ("image_powers", "fcmp_ordered(\">\", given, every(0.0))", "fcmp_ordered(\">=\", given, every(0.0))"),
    ("image_powers", "DARKEST = 1e-6", "DARKEST = 1e-5"),
    ("image_powers", "-0.5, 0.5, 6)", "-0.5, 0.5, 4)"),
    ("image_powers", "ROOT - 1, 8)", "ROOT - 1, 5)"),
    ("image_powers", "if known != at(job, 1, b, 1):", "if known == 0:"),
    ("image_powers", "elif power == 1:", "elif False:"),
    ("image_powers", "even = size - size % LANES", "even = size"),
    ("image_powers", "+ types.float32(0.5))", ")"),
    ("image_powers", "depth * i * size, job[MADE]", "0 * i * size, job[MADE]"),
    ("instructions", "builder.add(source, back if turned else here)", "builder.add(source, here)"),
    ("instructions", "builder.shuffle_vector(x, x, order) if turned else x", "x"),
    ("variability/linear", "told = 1 - 2.0 * negative, 1.0 * negative", "told = 1 - 2.0 * negative, 0.0 * negative"),
    ("variability/linear", "image.shape[-1] == 1 and native", "native"),
    ("image_marks", "black(to + depth * end_ * channels, depth * (width - end_) * channels)", "black(to, 0)"),
    ("image_axes", "same = one[k] == before[k]", "same = True"),
    ("image_axes", "which[i] = many - 1", "which[i] = i"),
    ("image_axes", "+ types.float32(0.5)))", "))"),
    ("image_axes", "x = least if x < least else x", "x = x if x > least else least"),
    ("image_axes", "which_0[i] * step + j * line + c", "i * step + j * line + c"),
    ("image_axes", "which_0[i] * step if as_is", "i * step if as_is"),
    ("image_axes", "        if matrix_1 != known_1:", "        if known_1 == 0:"),
    ("image_axes", "to + 4 * column, step)", "to + 4 * column, wide)"),
    ("image_axes", "here - depth * size, depth * size)", "here, depth * size)"),
    ("chance_code", "y + third + _U(1)", "y + third + _U(2)"),
    ("chance_code", "unit % blocks * BLOCK", "0"),
    ("chance_code", "if w < _F(5) else q", "if w < _F(50) else q"),
    ("chance_code", "many, made = min(BLOCK, n - place)", "many, made = min(BLOCK, n)"),
    ("chance_code", "x = x if x > lowest else lowest", "x = -x"),
    ("instructions", "builder.fmul(all_, builder.load(at(source, v), align=4)", "builder.fmul(all_, builder.load(at(source, 0), align=4)"),
    ("native", "jnp.pad(matrix.T,", "jnp.pad(matrix,"),
    ("native", "all(x.dtype == jnp.float32 for x in given) and _here()", "_here()"),
    ("native", "return settled(*primals), tangents[0]", "return settled(*primals), 2 * tangents[0]"),
    ("native", "jax.jvp(varied, primals, tangents)", "jax.jvp(varied, primals, primals)"),
    ("native", "*known, primals, tangents = given", "*known, tangents, primals = given"),
    ("variability/linear", "jnp.flip(kernel)", "kernel"),
    ("variability/linear", "jnp.where(there, matrix(n).astype(real(image)), jnp.eye(n, dtype=real(image)))", "matrix(n).astype(real(image))"),
    ("variability/turns", "elif name not in ONE_BY_ONE and", "elif name in ONE_BY_ONE and"),
    ("variability/turns", "        if not any(mine):\n            continue\n", ""),
    ("variability/turns", "(*step.invars, *step.outvars)) < size:", "(*step.invars, *step.outvars)) <= size:"),
    ("variability/turns", "if not summed or", "if"),
    ("console", "libc.mallopt(_MMAP_THRESHOLD, REUSED)", "libc.mallopt(_MMAP_THRESHOLD, REUSED // 2**20)"),
]  # fmt: skip
IMAGES_TESTED = (
    "test_images_by_machine_code",
    "test_random_fields_are_those_of_jax",
    "test_memory_is_used_again",
)
LISTS = {
    "images": [(*mutant, IMAGES_TESTED) for mutant in IMAGES],
    "convolutions": [(*mutant, ("test_convolutions_by_machine_code",)) for mutant in CONVOLUTIONS],
    "experience": [
        *(("experience", *mutant, ("test_experience_is_read_with_theory",)) for mutant in EXPERIENCE),
        ("choices", 'stem.partition("@")[0]', "stem", ("test_experience_is_read_with_theory",)),
    ],
    "states": [
        *(("amounts", *mutant, ("test_known_amounts_make_known_changes",)) for mutant in AMOUNTS),
        *((*mutant, ("test_known_amounts_make_known_changes",)) for mutant in IMAGE_STATES),
        *((*mutant, ("test_a_cohort_made_again_shows_what_is_misread",)) for mutant in REMADE),
        *(("own_laws", *mutant, ("test_prevalence_is_told_from_calls",)) for mutant in PREVALENCE),
    ],
    "theory": [(*mutant, FORMULAS) for mutant in THEORY],
    "program": PROGRAM,
    "segmentation": SEGMENTATION,
    "several": SEVERAL,
    "sampling": [("sampling", *mutant, FORMULAS[:1]) for mutant in SAMPLING],
    "learning": [("learning", *mutant, FORMULAS[:1]) for mutant in LEARNING],
    "early": [("early", *mutant, ("test_early_warning_without_labels",)) for mutant in EARLY],
    "pilot": [("pilot", *mutant, ("test_pilot_runs_are_read_with_theory",)) for mutant in PILOT],
    "variability": [(f"variability/{module}", old, new, LAWS) for module, old, new in VARIABILITY],
}

if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("which", nargs="?", default="theory", choices=LISTS)
    asked.add_argument("--kept", type=Path)
    main(**vars(asked.parse_args()))
