// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../src/Escrow.sol";
import {Config} from "../src/Governed.sol";
import {Change, EndSignatures, Status, Terms} from "../src/IEscrow.sol";
import {Lens} from "../src/Lens.sol";
import {TestUSDC} from "./mocks/TestUSDC.sol";
import {Test} from "forge-std/Test.sol";

/// @notice An escrow with one ERC-20 and the native coin listed, the roles taken, and one renter and one provider.
abstract contract Fixture is Test {
    uint40 internal constant T0 = 1_800_000_000;
    /// @dev 1,000 base units a second, so that amounts can be read off as seconds.
    uint96 internal constant PRICE = 3_600_000;
    uint96 internal constant PER_SEC = 1000;
    uint16 internal constant FEE_BPS = 1000;
    uint40 internal constant START_IN = 15 minutes;
    /// @dev Pays for 10,000 seconds.
    uint96 internal constant DEPOSIT = 10_000 * PER_SEC;
    address internal constant NATIVE = address(0);

    Escrow internal escrow;
    Lens internal lens;
    TestUSDC internal usdc;
    address internal owner = makeAddr("owner");
    address internal operator = makeAddr("operator");
    address internal treasury = makeAddr("treasury");
    address internal guardian = makeAddr("guardian");
    address internal arbiter = makeAddr("arbiter");
    address internal renter = makeAddr("renter");
    address internal provider = makeAddr("provider");
    address internal stranger = makeAddr("stranger");

    function setUp() public virtual {
        vm.warp(T0);
        _deploy();
        _fund(renter, usdc, 1e12);
        vm.deal(renter, 1e24);
    }

    /// @dev The folder of the artefacts under test; none for what was compiled along with the tests. With
    /// ESCROW_ARTIFACTS=out-release the whole suite runs against what is deployed, built via IR.
    function _artifacts() internal view virtual returns (string memory) {
        return vm.envOr("ESCROW_ARTIFACTS", string(""));
    }

    function _deploy() private {
        bool isCompiledAlong = bytes(_artifacts()).length == 0;
        usdc = isCompiledAlong ? new TestUSDC() : TestUSDC(_deploy("TestUSDC", ""));
        escrow = _newEscrow(_config());
        lens = isCompiledAlong ? new Lens(escrow) : Lens(_deploy("Lens", abi.encode(escrow)));
    }

    function _newEscrow(Config memory config) internal returns (Escrow) {
        if (bytes(_artifacts()).length == 0) return new Escrow(config);
        return Escrow(_deploy("Escrow", abi.encode(config)));
    }

    function _config() internal view returns (Config memory config) {
        config.owner = owner;
        config.guardian = guardian;
        config.treasury = treasury;
        config.arbiter = arbiter;
        config.operators = new address[](1);
        config.operators[0] = operator;
        config.tokens = new address[](2);
        config.tokens[0] = address(usdc);
        config.tokens[1] = NATIVE;
    }

    function _deploy(string memory name, bytes memory args) private returns (address made) {
        bytes memory code =
            bytes.concat(vm.getCode(string.concat(_artifacts(), "/", name, ".sol/", name, ".json")), args);
        assembly ("memory-safe") {
            made := create(0, add(code, 0x20), mload(code))
            if iszero(made) {
                returndatacopy(code, 0, returndatasize())
                revert(code, returndatasize())
            }
        }
    }

    /// @dev Asked of forge, since the optimizer takes `block.timestamp` for constant within a test.
    function _now() internal view returns (uint40) {
        return uint40(vm.getBlockTimestamp());
    }

    /// @dev Through the delay, with the clock as it was afterwards.
    function _enact(Change change, address subject) internal {
        uint256 moment = vm.getBlockTimestamp();
        vm.prank(owner);
        escrow.scheduleChange(change, subject);
        vm.warp(moment + escrow.CHANGE_DELAY());
        vm.prank(owner);
        escrow.executeChange(change, subject);
        vm.warp(moment);
    }

    function _list(address token) internal {
        _enact(Change.ListToken, token);
    }

    function _fund(address account, TestUSDC token, uint256 amount) internal {
        token.mint(account, amount);
        vm.prank(account);
        token.approve(address(escrow), type(uint256).max);
    }

    function _terms(address token, bytes32 orderHash) internal view returns (Terms memory) {
        return Terms({
            renter: renter,
            provider: provider,
            token: token,
            pricePerHour: PRICE,
            feeBps: FEE_BPS,
            startBy: _now() + START_IN,
            holdback: 0,
            orderHash: orderHash
        });
    }

    function _terms() internal view returns (Terms memory) {
        return _terms(address(usdc), "order");
    }

    function _lock(Terms memory t, uint96 deposit) internal returns (bytes32) {
        vm.prank(t.renter);
        return escrow.lock{value: t.token == NATIVE ? deposit : 0}(t, deposit);
    }

    function _start(Terms memory t, uint40 startedAt) internal {
        vm.prank(operator);
        escrow.start(t, startedAt);
    }

    /// @dev Locks and starts at once.
    function _activate(Terms memory t, uint96 deposit) internal returns (bytes32 id) {
        id = _lock(t, deposit);
        _start(t, _now());
    }

    function _stop(Terms memory t, address by) internal {
        vm.prank(by);
        escrow.stop(t);
    }

    function _close(Terms memory t, uint40 stoppedAt, uint32 creditSecs) internal {
        vm.prank(operator);
        escrow.close(t, stoppedAt, creditSecs, EndSignatures("", ""));
    }

    function _assertStatus(bytes32 id, Status status) internal view {
        assertEq(uint256(escrow.rental(id).status), uint256(status), "status");
    }

    /// @dev With both sides' signatures on the end, each may be empty.
    function _close(Terms memory t, uint40 stoppedAt, uint32 creditSecs, EndSignatures memory signatures) internal {
        vm.prank(operator);
        escrow.close(t, stoppedAt, creditSecs, signatures);
    }

    /// @dev Sends `input` to the escrow as `from`, which must be refused with that error and nothing more.
    function _refused(address from, bytes memory input, bytes4 error_) internal {
        vm.prank(from);
        (bool success, bytes memory reason) = address(escrow).call(input);
        assertFalse(success, "refused");
        assertEq(reason, abi.encodePacked(error_), "reason");
    }

    function _assertEnded(bytes32 id) internal view {
        Status status = escrow.rental(id).status;
        assertTrue(status == Status.None || status == Status.Closed, "ended");
        assertEq(escrow.rental(id).deposit, 0, "nothing left");
    }

    /// @dev Of the fixture's ERC-20: what provider and treasury may withdraw, and what the escrow holds.
    function _assertBalances(uint256 ofProvider, uint256 ofTreasury, uint256 held) internal view {
        assertEq(escrow.balanceOf(provider, address(usdc)), ofProvider, "provider");
        assertEq(escrow.balanceOf(treasury, address(usdc)), ofTreasury, "treasury");
        assertEq(usdc.balanceOf(address(escrow)), held, "held");
    }
}
