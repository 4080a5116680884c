#include "cli/bench/timeline_svg.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::cli {
namespace {

// Pixels.
constexpr double kLabelWidth = 130, kPlotWidth = 1000, kRight = 30;
constexpr double kTop = 48, kRowPitch = 30, kBarHeight = 22, kAxisHeight = 40;

// Each has a contrast of at least 3 with white and with black; the grey, which letters have, of 4.4.
struct Colour {
  int red, green, blue;
};
constexpr char kGrey[] = "#777777";
constexpr Colour kDecode = {0x2f, 0x7f, 0xd6};
constexpr Colour kPrefill = {0xd9, 0x73, 0x0d};

std::string ColourOf(double prefill_share) {
  const auto mix = [prefill_share](int decode, int prefill) {
    return static_cast<int>(std::lround(decode + (prefill - decode) * std::clamp(prefill_share, 0.0, 1.0)));
  };
  return absl::StrFormat("#%02x%02x%02x", mix(kDecode.red, kPrefill.red), mix(kDecode.green, kPrefill.green),
                         mix(kDecode.blue, kPrefill.blue));
}

// The part of the load that is shown. Seconds.
struct Window {
  double start_s = 0, end_s = 0;
  size_t first = 0, count = 0;  // steps
  double Pixels(double at_s) const {
    const double length_s = std::max(end_s - start_s, 1e-9);
    return kLabelWidth + (std::clamp(at_s, start_s, end_s) - start_s) / length_s * kPlotWidth;
  }
};

Window MiddleOf(const std::vector<StepSpan>& steps) {
  Window window;
  window.count = std::min(steps.size(), kMaxChartSteps);
  window.first = (steps.size() - window.count) / 2;
  if (steps.empty()) return window;
  window.start_s = window.end_s = steps[window.first].planned_s;
  for (size_t i = 0; i < window.count; ++i) window.end_s = std::max(window.end_s, steps[window.first + i].end_s);
  return window;
}

std::string Text(double x, double y, absl::string_view anchor, absl::string_view text) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text);
}

std::string Legend(const StageTimeline& timeline, const Window& window) {
  std::string svg =
      Text(kLabelWidth, 18, "start",
           absl::StrFormat("%d of %d steps, from %.3f s on", window.count, timeline.num_steps(), window.start_s));
  double x = kLabelWidth + kPlotWidth - 320;
  for (const auto& [name, share] :
       {std::pair("decode", 0.0), std::pair("half and half", 0.5), std::pair("prefill", 1.0)}) {
    absl::StrAppendFormat(&svg, "<rect x=\"%.1f\" y=\"8\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x,
                          ColourOf(share));
    absl::StrAppend(&svg, Text(x + 18, 18, "start", name));
    x += 120;
  }
  return svg;
}

std::string Row(const StageUse& stage, const std::string& name, size_t index, const Window& window) {
  const double y = kTop + kRowPitch * static_cast<double>(index);
  std::string svg = absl::StrFormat("<g class=\"stage\" id=\"stage-%s\">\n", name);
  absl::StrAppend(
      &svg, Text(kLabelWidth - 8, y + 16, "end", absl::StrFormat("stage %s: %.1f %%", name, stage.utilisation * 100)));
  absl::StrAppendFormat(
      &svg, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\" fill-opacity=\"0.15\"/>\n",
      kLabelWidth, y, kPlotWidth, kBarHeight, kGrey);
  for (const BusyInterval& interval : stage.intervals) {
    if (interval.end_s <= window.start_s || interval.start_s >= window.end_s) continue;
    const double x = window.Pixels(interval.start_s);
    absl::StrAppendFormat(&svg, "<rect x=\"%.2f\" y=\"%.0f\" width=\"%.2f\" height=\"%.0f\" fill=\"%s\"/>\n", x, y,
                          window.Pixels(interval.end_s) - x, kBarHeight, ColourOf(interval.prefill_share));
  }
  return svg + "</g>\n";
}

// Ticks at 1, 2 or 5 times a power of ten, about ten of them.
double TickStep(double length_s) {
  const double rough = std::max(length_s, 1e-9) / 10, power = std::pow(10, std::floor(std::log10(rough)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

std::string Axis(const Window& window, double y) {
  std::string svg = absl::StrFormat("<g class=\"axis\">\n<path d=\"M%.1f %.1fh%.1f", kLabelWidth, y, kPlotWidth);
  const double length_s = window.end_s - window.start_s, step_s = TickStep(length_s);
  const bool seconds = length_s >= 2;
  const double unit_s = seconds ? 1 : 1e-3;
  const int digits = std::max(0, -static_cast<int>(std::floor(std::log10(step_s / unit_s) + 1e-9)));
  std::string labels;
  for (int i = 0; i * step_s <= length_s * (1 + 1e-9); ++i) {
    const double x = window.Pixels(window.start_s + i * step_s);
    absl::StrAppendFormat(&svg, "M%.1f %.1fv5", x, y);
    absl::StrAppend(&labels, Text(x, y + 20, "middle", absl::StrFormat("%.*f", digits, i * step_s / unit_s)));
  }
  absl::StrAppendFormat(&svg, "\" stroke=\"%s\" fill=\"none\"/>\n", kGrey);
  return absl::StrCat(svg, labels, Text(kLabelWidth - 8, y + 20, "end", seconds ? "s" : "ms"), "</g>\n");
}

}  // namespace

std::string TimelineSvg(const StageTimeline& timeline) {
  const Window window = MiddleOf(timeline.steps());
  const double bottom = kTop + kRowPitch * static_cast<double>(timeline.stages().size());
  const double width = kLabelWidth + kPlotWidth + kRight;
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
      "font-family=\"sans-serif\" font-size=\"13\" fill=\"%s\">\n",
      width, bottom + kAxisHeight, width, bottom + kAxisHeight, kGrey);
  absl::StrAppend(&svg, Legend(timeline, window));
  for (size_t i = 0; i < timeline.stages().size(); ++i) {
    const StageUse& stage = timeline.stages()[i];
    absl::StrAppend(&svg, Row(stage, timeline.NameOf(stage), i, window));
  }
  return absl::StrCat(svg, Axis(window, bottom), "</svg>\n");
}

}  // namespace tandem::cli
