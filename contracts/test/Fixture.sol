// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../src/Escrow.sol";
import {Status, Terms} from "../src/IEscrow.sol";
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
    TestUSDC internal usdc;
    address internal owner = makeAddr("owner");
    address internal operator = makeAddr("operator");
    address internal treasury = makeAddr("treasury");
    address internal guardian = makeAddr("guardian");
    address internal renter = makeAddr("renter");
    address internal provider = makeAddr("provider");
    address internal stranger = makeAddr("stranger");

    function setUp() public virtual {
        vm.warp(T0);
        _deploy();
        vm.startPrank(owner);
        escrow.listToken(address(usdc), true);
        escrow.listToken(NATIVE, true);
        vm.stopPrank();
        _fund(renter, usdc, 1e12);
        vm.deal(renter, 1e24);
    }

    /// @dev The folder of the artefacts under test; none for what was compiled along with the tests. With
    /// ESCROW_ARTIFACTS=out-release the whole suite runs against what is deployed, built via IR.
    function _artifacts() internal view virtual returns (string memory) {
        return vm.envOr("ESCROW_ARTIFACTS", string(""));
    }

    function _deploy() private {
        if (bytes(_artifacts()).length == 0) {
            escrow = new Escrow(owner, operator, treasury, guardian);
            usdc = new TestUSDC();
        } else {
            escrow = Escrow(_deploy("Escrow", abi.encode(owner, operator, treasury, guardian)));
            usdc = TestUSDC(_deploy("TestUSDC", ""));
        }
    }

    function _deploy(string memory name, bytes memory args) private returns (address) {
        return vm.deployCode(string.concat(_artifacts(), "/", name, ".sol/", name, ".json"), args);
    }

    /// @dev Asked of forge, since the optimizer takes `block.timestamp` for constant within a test.
    function _now() internal view returns (uint40) {
        return uint40(vm.getBlockTimestamp());
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
        escrow.close(t, stoppedAt, creditSecs);
    }

    function _assertStatus(bytes32 id, Status status) internal view {
        assertEq(uint256(escrow.rental(id).status), uint256(status), "status");
    }

    /// @dev Of the fixture's ERC-20: what provider and treasury may withdraw, and what the escrow holds.
    function _assertBalances(uint256 ofProvider, uint256 ofTreasury, uint256 held) internal view {
        assertEq(escrow.balanceOf(provider, address(usdc)), ofProvider, "provider");
        assertEq(escrow.balanceOf(treasury, address(usdc)), ofTreasury, "treasury");
        assertEq(usdc.balanceOf(address(escrow)), held, "held");
    }
}
