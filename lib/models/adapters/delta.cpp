#include "models/adapters/delta.h"

#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/kron.h>
#include <ATen/ops/matmul.h>
#include <fmt/format.h>

#include "base/error.h"

namespace atelier::models::adapters {
namespace {

/// The roles of one module, with what every look-up needs to complain.
struct Set {
  const Roles& roles;
  const at::Tensor& weight;
  const std::string& what;

  [[noreturn]] void bad(const std::string& message) const {
    throw base::Error(base::ExitCode::data, fmt::format("the adapter for {} {}", what, message),
                      "was it made for another model?");
  }
  bool has(const std::string& role) const { return roles.contains(role); }
  at::Tensor get(const std::string& role) const {
    const auto place = roles.find(role);
    if (place == roles.end()) bad(fmt::format("lacks its {}", role));
    return place->second;
  }
  /// A tensor as a matrix: its first dimension and all others.
  at::Tensor matrix(const std::string& role) const {
    const auto t = get(role);
    if (t.dim() < 2 || t.numel() == 0) bad(fmt::format("has a {} that is no matrix", role));
    return t.flatten(1);
  }
  at::Tensor kernel(const std::string& role) const {
    const auto t = get(role);
    if (t.dim() != 4 || t.numel() == 0) bad(fmt::format("has a {} that is no kernel", role));
    return t;
  }
  void fits(bool holds) const {
    if (!holds) bad("has shapes that do not fit one another or the weight");
  }
  std::int64_t out() const { return weight.size(0); }
  std::int64_t in() const { return weight.size(1); }
  std::int64_t rest() const { return out() == 0 ? 0 : weight.numel() / out(); }  // in * kh * kw

  /// alpha / rank; a file without alpha means alpha = rank.
  double strength(std::int64_t rank) const {
    if (!has("alpha")) return 1;
    const auto alpha = get("alpha");
    if (alpha.numel() != 1) bad("has an alpha that is no number");
    return alpha.item<double>() / static_cast<double>(rank);
  }
  /// a b for a (n, r) and b (r, m).
  at::Tensor product(const at::Tensor& a, const at::Tensor& b) const {
    fits(a.size(1) == b.size(0));
    return at::matmul(a, b);
  }
};

/// A kernel (i, j, kh, kw) between a (i, out) and b (j, in): (out, in, kh, kw).
at::Tensor tucker(const Set& s, const at::Tensor& kernel, const at::Tensor& a, const at::Tensor& b) {
  s.fits(a.size(0) == kernel.size(0) && b.size(0) == kernel.size(1) && a.size(1) == s.out() && b.size(1) == s.in() &&
         s.weight.dim() == 4 && kernel.size(2) == s.weight.size(2) && kernel.size(3) == s.weight.size(3));
  return at::einsum("ijkl,jr,ip->prkl", {kernel, b, a});
}

at::Tensor lora(const Set& s) {
  const auto up = s.matrix("up"), down = s.matrix("down");
  const double strength = s.strength(down.size(0));
  if (s.has("mid")) return tucker(s, s.kernel("mid"), up.t(), down) * strength;
  s.fits(up.size(0) == s.out() && down.size(1) == s.rest());
  return s.product(up, down) * strength;
}

at::Tensor loha(const Set& s) {
  const auto factor = [&](const std::string& number) {
    const auto a = s.matrix("hada_w" + number + "_a"), b = s.matrix("hada_w" + number + "_b");
    if (s.has("hada_t" + number)) return tucker(s, s.kernel("hada_t" + number), a, b);
    s.fits(a.size(0) == s.out() && b.size(1) == s.rest());
    return s.product(a, b);
  };
  const auto one = factor("1"), two = factor("2");
  s.fits(one.sizes() == two.sizes());
  return one * two * s.strength(s.matrix("hada_w1_b").size(0));
}

/// The second factor of LoKr, (out2, in2) or (out2, in2, kh, kw).
at::Tensor second_factor(const Set& s) {
  if (s.has("lokr_w2")) return s.get("lokr_w2");
  const auto a = s.matrix("lokr_w2_a"), b = s.matrix("lokr_w2_b");
  if (!s.has("lokr_t2")) return s.product(a, b);
  const auto kernel = s.kernel("lokr_t2");
  s.fits(a.size(0) == kernel.size(0) && b.size(0) == kernel.size(1));
  return at::einsum("ijkl,jr,ip->prkl", {kernel, b, a});
}

at::Tensor lokr(const Set& s) {
  auto one = s.has("lokr_w1") ? s.get("lokr_w1") : s.product(s.matrix("lokr_w1_a"), s.matrix("lokr_w1_b"));
  auto two = second_factor(s);
  s.fits(one.dim() == 2 && two.dim() >= 2 && one.size(0) * two.size(0) == s.out() &&
         one.numel() * two.numel() == s.weight.numel());
  std::int64_t rank = 0;  // 0: both factors are whole, and alpha has no meaning
  if (s.has("lokr_w2_b")) rank = s.matrix("lokr_w2_b").size(0);
  if (s.has("lokr_w1_b")) rank = s.matrix("lokr_w1_b").size(0);
  if (two.dim() == 4) one = one.unsqueeze(-1).unsqueeze(-1);
  return at::kron(one.contiguous(), two.contiguous()) * (rank > 0 ? s.strength(rank) : 1.0);
}

/// m / |W + d| (W + d) - W, lengths over every dimension but that of the magnitudes. peft's are one for each row, whatever
/// their shape; LyCORIS' dora_scale may also have one for each column: (1, in, ...).
at::Tensor decomposed(const Set& s, const at::Tensor& added) {
  const bool peft = s.has("magnitude");
  const auto magnitude = s.get(peft ? "magnitude" : "dora");
  const auto whole = s.weight.to(at::kFloat) + added;
  const bool columns = !peft && magnitude.dim() >= 2 && magnitude.size(0) == 1 && s.out() != 1;
  s.fits(magnitude.numel() == (columns ? s.in() : s.out()));
  std::vector<std::int64_t> others, shape(static_cast<std::size_t>(whole.dim()), 1);
  const std::int64_t kept = columns ? 1 : 0;
  for (std::int64_t i = 0; i < whole.dim(); ++i)
    if (i != kept) others.push_back(i);
  shape[static_cast<std::size_t>(kept)] = magnitude.numel();
  const auto length = (whole * whole).sum(others, /*keepdim=*/true).sqrt();
  return whole * (magnitude.reshape(shape) / length) - s.weight.to(at::kFloat);
}

}  // namespace

at::Tensor delta(const Roles& roles, const at::Tensor& weight, double scale, const std::string& what) {
  const Set s{roles, weight, what};
  at::Tensor d;
  if (s.has("down") || s.has("up")) {
    d = lora(s);
  } else if (s.has("hada_w1_a")) {
    d = loha(s);
  } else if (s.has("lokr_w1") || s.has("lokr_w1_a")) {
    d = lokr(s);
  } else {
    s.bad("lacks its matrices");
  }
  d = (d * scale).reshape(weight.sizes());
  return s.has("dora") || s.has("magnitude") ? decomposed(s, d) : d;
}

}  // namespace atelier::models::adapters
